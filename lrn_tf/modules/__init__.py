"""The pool of modules, which may follow which, and how a batch of networks runs (Sec. 4.1, 5.2)."""
