"""`verbatim pull`, `list`, `show` and `rm`: the models on this machine, in the hub's cache, and packed weights.

huggingface_hub knows where its cache lies and what is in it, `fastpath/model/model_lib.py` where packed weights lie.
"""
