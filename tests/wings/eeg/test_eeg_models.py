"""The networks for EEG: EEGNet is the paper's, layer by layer, and both give logits that can be trained."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.config.file import load_experiment
from common.config.settings import model_name
from common.data import folds_of, make_splits
from common.data.arrays import load_arrays
from common.eeg.__main__ import main as make_epochs
from common.eeg.eegnet import DenseEEG, EEGNet
from common.seeds import Stream
from common.training import fit_on, set_up, test_model
from conftest import PROJECT

C, T, F1, D, F2, N = 64, 128, 8, 2, 16, 4


def test_eegnet_has_the_layers_of_table_2():
    """Output shape and number of parameters of each layer, for the table's symbols at C = 64, T = 128, N = 4."""
    table = {
        "temporal": ((F1, C, T), 64 * F1),
        "temporal_norm": ((F1, C, T), 2 * F1),
        "spatial": ((D * F1, 1, T), C * D * F1),
        "spatial_end": ((D * F1, 1, T // 4), 2 * D * F1),
        "separable": ((F2, 1, T // 4), 16 * D * F1 + F2 * (D * F1)),
        "separable_end": ((F2, 1, T // 32), 2 * F2),
        "classify": ((N,), N * (F2 * T // 32) + N),  # and the bias of the authors' code
    }
    network, found = EEGNet((C, T), N).eval(), {}
    for name, layer in network.named_children():
        count = sum(p.numel() for p in layer.parameters())
        layer.register_forward_hook(lambda _, i, o, name=name, n=count: found.update({name: (tuple(o.shape[1:]), n)}))
    network(torch.randn(2, C, T))
    assert found == table
    assert sum(p.numel() for p in network.parameters()) == sum(n for _, n in table.values())


def test_the_filters_are_as_the_paper_says():
    network = EEGNet((C, T), N, kernel_length=32)
    assert network.temporal[1].kernel_size == (1, 32)
    assert network.spatial.groups == F1  # depthwise: each temporal filter has spatial filters of its own
    _, depthwise, pointwise = network.separable
    assert depthwise.groups == D * F1 and depthwise.kernel_size == (1, 16) and pointwise.kernel_size == (1, 1)
    assert [m.kernel_size for m in network.modules() if isinstance(m, torch.nn.AvgPool2d)] == [(1, 4), (1, 8)]
    assert {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}


def test_weights_act_no_longer_than_their_constraints():
    torch.manual_seed(0)
    network, epochs = EEGNet((4, 64), 3).eval(), torch.randn(5, 4, 64)
    with torch.no_grad():
        for layer, limit in ((network.spatial, 1.0), (network.classify, 0.25)):
            direction = layer.weight / layer.weight.flatten(1).norm(dim=1).view(-1, *[1] * (layer.weight.dim() - 1))
            layer.weight.copy_(limit * direction)
            at_the_limit = network(epochs)
            layer.weight.copy_(10 * limit * direction)
            assert torch.allclose(network(epochs), at_the_limit, atol=1e-5)
            layer.weight.copy_(0.5 * limit * direction)
            assert not torch.allclose(network(epochs), at_the_limit, atol=1e-5)


@pytest.mark.parametrize("network", [DenseEEG, EEGNet])
@pytest.mark.parametrize(("n_classes", "n_logits"), [(2, 1), (3, 3)])
def test_logits_of_both_networks_can_be_trained(network, n_classes, n_logits):
    torch.manual_seed(0)
    model, epochs = network((6, 70), n_classes, dropout=0.1), torch.randn(24, 6, 70)
    labels = torch.arange(24) % n_classes
    epochs[labels == 1, 2] += 2.0
    epochs[labels == 2, 4] -= 2.0

    def loss():
        logits = model(epochs)
        assert logits.shape == (24, n_logits)
        if n_logits == 1:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits.squeeze(1), labels.float())
        return torch.nn.functional.cross_entropy(logits, labels)

    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = loss().item()
    for _ in range(30):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.5 * before


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected at least 32 samples"):
        EEGNet((16, 31), 2)
    with pytest.raises(ValueError, match="n_classes: expected at least 2, found 1"):
        DenseEEG((16, 31), 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_eegnet_learns_what_the_dense_network_does_not_and_holds_for_subjects_it_has_not_seen(seed, tmp_path):
    pytest.importorskip("mne")
    make_epochs([str(tmp_path / "eeg.npz"), "--seed", str(seed)])
    table = load_arrays(tmp_path / "eeg.npz", cached=False)
    fold = folds_of(make_splits(table, Stream(seed), 5, 1, 5), 0, 1)[0]
    subjects = [set(table.groups[rows]) for rows in (fold.train, fold.dev, fold.test)]
    assert sum(map(len, subjects)) == 20 == len(set.union(*subjects))
    configs, _ = load_experiment(PROJECT / "step_5" / "configs" / "eeg.py")
    areas = {}
    for config in configs:
        network, _ = fit_on(table, fold, set_up("cpu", "fp32"), Stream(seed))(config, lambda *_: None)
        areas[model_name(config)] = roc_auc_score(table.labels[fold.test], test_model(network, table, fold.test))
    print(f"seed {seed}: {areas}")
    assert areas["EEGNet"] > 0.8 and areas["DenseEEG"] < areas["EEGNet"] - 0.15
