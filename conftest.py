"""No test may ask the network, not even for a model that does not exist; set before transformers is imported."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
