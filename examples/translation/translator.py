"""An encoder-decoder as a training function: a GRU reads the English number, another goes on from there in German."""

import torch
from number_words import CLASSES, END, LETTERS, SOURCE, TARGET, encoded
from torch import nn
from torch.nn import functional as F


class Translator(nn.Module):
    """Rows of letters [B, SOURCE + TARGET], -1 where there is none -> logits of the next letter [B, classes]."""

    def __init__(self, outputs, width, dropout):
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS) + 1, width)  # 0: the German number begins
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(2 * width, outputs)

    def forward(self, rows):
        english, german = rows[:, :SOURCE], rows[:, SOURCE:]
        read, _ = self.encoder(self.dropout(self.letters(english.clamp(min=0))))
        there = english >= 0  # [B, S]
        thought = last(read, there)  # [B, H]
        begun = F.pad(german, (1, 0))  # [B, T + 1]: a 0, then what there is
        said, _ = self.decoder(self.dropout(self.letters(begun.clamp(min=0))), thought[None])
        state = last(said, begun >= 0)
        scores = (read @ state[..., None])[..., 0].masked_fill(~there, -torch.inf)
        looked_at = (scores.softmax(-1)[:, None] @ read)[:, 0]  # attention over the English letters
        return self.readout(self.dropout(torch.cat([state, looked_at], -1)))


def last(hidden, there):
    """The state after the last letter: hidden [B, T, H], there [B, T] -> [B, H]."""
    return hidden[torch.arange(len(hidden)), there.sum(1) - 1]


def train(task):
    """Called once a replica; what it returns predicts: rows -> logits."""
    net = Translator(
        task.outputs, task.options.get("width", 64), task.options.get("dropout", 0.0)
    ).to(task.device)
    inputs = torch.from_numpy(task.train.inputs).long().to(task.device)
    targets = torch.from_numpy(task.train.targets).to(task.device)
    epochs, size = task.config["training.epochs"], task.config["training.batch_size"]
    optimizer = torch.optim.Adam(net.parameters(), lr=task.config["training.lr"])
    for epoch in range(1, epochs + 1):
        net.train()
        for batch in torch.randperm(len(targets)).to(task.device).split(size):
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        if epoch % 5 == 0:
            task.report(epoch, **errors(net.eval(), task))
    net.eval()
    return lambda rows: net(torch.as_tensor(rows).long().to(task.device))


@torch.no_grad()
def errors(net, task):
    """What a curve is drawn of."""
    found = {}
    for name, rows in (("train", task.train), ("validation", task.validation)):
        logits = net(torch.from_numpy(rows.inputs).long().to(task.device)).cpu()
        wrong = logits.argmax(1) != torch.from_numpy(rows.targets)
        found[f"{name}_error"] = wrong.float().mean()
    return found


@torch.no_grad()
def translated(net, english):
    """A whole number, letter by letter: the likeliest each time."""
    german = ""
    while len(german) < TARGET:
        letter = CLASSES[int(net(torch.from_numpy(encoded(english, german))[None]).argmax())]
        if letter == END:
            break
        german += letter
    return german
