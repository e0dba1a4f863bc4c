"""A training function: any loop at all, called once a replica as train(task). This one is torch's, by hand."""

import torch
from torch.nn import functional as F


def train(task):
    """Train a small network on task.train; what it returns predicts: inputs -> logits."""
    width = task.options.get("width", 64)
    net = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.LazyLinear(width),
        torch.nn.ReLU(),
        torch.nn.Linear(width, task.outputs),
    ).to(task.device)
    inputs = torch.from_numpy(task.train.inputs).to(task.device)
    targets = torch.from_numpy(task.train.targets).to(task.device)
    net(inputs[:2])  # tells the lazy layer its size
    optimizer = torch.optim.Adam(net.parameters(), lr=task.config["training.lr"])
    size = task.config["training.batch_size"]
    for epoch in range(1, task.config["training.epochs"] + 1):
        net.train()
        for batch in torch.randperm(len(targets)).to(task.device).split(size):
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        task.report(epoch, **errors(net, task))
    return net


@torch.no_grad()
def errors(net, task):
    """What a curve is drawn of, and a scheduler prunes by."""
    net.eval()
    found = {}
    for name, rows in (("train", task.train), ("validation", task.validation)):
        if rows:
            logits = net(torch.from_numpy(rows.inputs).to(task.device)).cpu()
            targets = torch.from_numpy(rows.targets)
            found[f"{name}_error"] = (logits.argmax(1) != targets).float().mean()
            found[f"{name}_loss"] = F.cross_entropy(logits, targets)
    return found
