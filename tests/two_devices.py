"""`lrn_tf.main` on a CPU that is made to look like two devices: what `--distribute=mirrored` needs."""

import tensorflow as tf

if __name__ == "__main__":
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from lrn_tf.main import console

    console()
