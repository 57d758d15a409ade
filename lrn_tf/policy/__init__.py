"""The router, and what it learns from: episodes, rewards, PPO (Sec. 4.2, 4.3)."""
