"""What happens to the paper's generative network in 50,000 steps: the symptoms of its optimum (chapter 9).

With a floor s under the deviations, no output exceeds -log(s sqrt(2 pi)). A network whose hidden values do
not depend on the flower reaches this bound. The study watches how near several networks come to it, and what
they can still tell apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ugmm_tutorial import data
from ugmm_tutorial.data import with_labels
from ugmm_tutorial.experiments.studies.iris_networks import SPECIES, VARIANTS, build
from ugmm_tutorial.inference import label_scores
from ugmm_tutorial.training import EnsembleTrainer

__all__ = ["SETTINGS", "measure", "noise_like", "symptoms"]

SETTINGS = {
    "variants": ["paper", "floor", "floor-ceiling", "categorical", "conditional"],
    "seeds": 5,
    "split": 0,
    "batch_size": 16,
    "learning_rate": 1e-3,
    # An epoch has eight steps, so training ends after 50,000 steps.
    "epochs": [1, 10, 30, 100, 300, 600, 1000, 1500, 2000, 3000, 4000, 5000, 6250],
    "noise": 1000,
}


def measure(settings: dict, progress: bool) -> dict:
    """The symptoms of each variant. Each symptom is a list over epochs; its entries are lists over seeds."""
    flowers = data.iris(seed=settings["split"])
    results = {}
    with tqdm(total=len(settings["variants"]) * settings["epochs"][-1], disable=not progress) as bar:
        for name in settings["variants"]:
            variant, count = VARIANTS[name], settings["seeds"]
            networks = [build(variant, seed) for seed in range(count)]
            training = EnsembleTrainer(
                networks,
                flowers.train.x.expand(count, -1, -1),
                flowers.train.y.expand(count, -1),
                objective=variant.objective,
                batch_size=settings["batch_size"],
                learning_rate=settings["learning_rate"],
            )
            watched: dict[str, list[list[float]]] = {}
            for epoch in settings["epochs"]:
                bar.update(epoch - training.epoch)
                training.run(epoch - training.epoch)
                found = [symptoms(network, flowers, settings["noise"]) for network in networks]
                for key in found[0]:
                    watched.setdefault(key, []).append([one[key] for one in found])
            results[name] = watched
    return results


@torch.no_grad()
def symptoms(network: nn.Sequential, flowers: data.Splits, noise: int = 1000) -> dict[str, float]:
    """Measures that tell a useful score from an empty one.

    Returns:
        ``log_likelihood``: mean output over the training flowers and their labels, in nats;
        ``bound``: the value that no output can exceed, in nats;
        ``train_accuracy`` and ``test_accuracy``: accuracies of the most probable label;
        ``root_std``: mean deviation of the root's components, weighted by their responsibilities;
        ``spread``: standard deviation of the last hidden values over the training flowers, weighted likewise;
        ``gap``: mean difference between the scores of a training flower's best and worst labels, in nats;
        ``noise``: mean output over uniform noise, in nats;
        ``noise_auc``: how often a flower scores above noise (1 always, 0.5 by chance).
    """
    from sklearn.metrics import roc_auc_score

    root = network[-1]
    together = with_labels(*flowers.train)
    hidden = network[:-1](together)
    scores = root(hidden).squeeze(-1)
    share = root.responsibilities(hidden).mean(dim=(0, 1))
    by_label = label_scores(network, flowers.train.x, range(SPECIES))
    of_noise = network(noise_like(flowers, noise)).squeeze(-1)
    return {
        "log_likelihood": scores.mean().item(),
        "bound": -math.log(root.min_std * math.sqrt(2 * math.pi)),
        "train_accuracy": _accuracy(by_label, flowers.train.y),
        "test_accuracy": _accuracy(label_scores(network, flowers.test.x, range(SPECIES)), flowers.test.y),
        "root_std": (root.std[0] @ share).item(),
        "spread": (hidden.std(dim=0) @ share).item(),
        "gap": (by_label.amax(dim=-1) - by_label.amin(dim=-1)).mean().item(),
        "noise": of_noise.mean().item(),
        "noise_auc": float(
            roc_auc_score([1] * len(scores) + [0] * noise, torch.cat([scores, of_noise]).tolist())
        ),
    }


def noise_like(flowers: data.Splits, count: int) -> Tensor:
    """Uniform noise in the range of the training flowers, with random labels: (count, K + 1)."""
    generator = torch.Generator().manual_seed(1)
    x = flowers.train.x
    low, high = x.amin(dim=0), x.amax(dim=0)
    noise = low + (high - low) * torch.rand(count, x.shape[1], generator=generator)
    return with_labels(noise, torch.randint(SPECIES, (count,), generator=generator))


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return (scores.argmax(dim=-1) == labels).double().mean().item()
