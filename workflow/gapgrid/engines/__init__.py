"""The only importers of torch, transformers, peft, trl, datasets, lm_eval and the hub.

Stages import them lazily.
"""
