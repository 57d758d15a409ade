"""What a machine has to do with it: starting TensorFlow, arithmetic, several devices."""
