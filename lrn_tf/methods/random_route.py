"""LRN with a router that is never trained: what remains of it shows what learned routing is worth."""

from lrn_tf.methods.lrn import LRNMethod


class RandomRoute(LRNMethod):
    """Modules learn along paths sampled from the router as it was made; see `LRNMethod`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.metrics = tuple(name for name in self.metrics if not name.startswith("losses/"))

    def train_router(self, *_):
        """Leaves the router as it is."""
        return {}
