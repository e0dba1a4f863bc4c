"""Train the backbone that finetune.yaml starts from, and save it: python pretrain.py

One replica of a first study; any state dict that torch.save wrote will do.
"""

import torch

import engram

study = engram.load(
    {
        "name": "pretrain",
        "data": {"name": "mnist1d", "train_size": 3000},
        "model": {"family": "nets:Backbone"},
        "training": {"lr": 3.0e-3, "steps": 1000},
        "replicas": {"count": 2},
    }
)
results = engram.run(study)
torch.save(results.model(0, 0).state_dict(), "backbone.pt")
