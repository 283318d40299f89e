"""The unit trained by two processes, as people do it."""

import copy
import datetime
import pickle
import socket
import warnings

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from emastudy import EMAU


def make(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), EMAU(8, 4, **options), nn.Conv2d(8, 2, 1)).train()


def images(rank, count=2):
    return torch.randn(count, 3, 7, 6, generator=torch.Generator().manual_seed(rank))


def step(network, image):
    network(image).square().sum().backward()


class Checkpointed(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return checkpoint(self.network, image, use_reentrant=False)


def unfrozen(rank):
    network = make()
    network.requires_grad_(False)
    network.requires_grad_(True)
    weight = network[1].conv1.weight.clone()
    wrapped = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            optimizer.zero_grad()
            step(wrapped, images(rank))
            optimizer.step()
    return {
        "told": any("gradient='detached' lets none through" in str(w.message) for w in caught),
        "unmoved": network[1].conv1.weight.equal(weight),
        "bases": network[1].bases,
    }


def nothing_on_one(rank):
    network = make()
    step(DistributedDataParallel(network), images(0, 2 if rank == 0 else 0))
    return {"bases": network[1].bases, "gradient": network[0].weight.grad}


def nan_on_one(rank):
    network = make()
    before = network[1].bases.clone()
    image = images(rank) * (float("nan") if rank == 1 else 1)
    network(image)
    return {"unmoved": network[1].bases.equal(before)}


def checkpointed(rank):
    plain, saving = make(gradient="unrolled"), make(gradient="unrolled")
    step(DistributedDataParallel(plain), images(rank))
    step(DistributedDataParallel(Checkpointed(saving)), images(rank))
    torch.testing.assert_close(saving[1].bases, plain[1].bases)
    torch.testing.assert_close(saving[1].conv1.weight.grad, plain[1].conv1.weight.grad)
    return {"bases": plain[1].bases}


def groups(rank):
    own = [distributed.new_group([member]) for member in range(2)][rank]
    alone = make(process_group=own)
    copied = copy.deepcopy(alone)
    alone(images(rank))
    copied(images(rank))
    pickled = pickle.loads(pickle.dumps(alone))
    return {
        "bases": alone[1].bases,
        "copied": copied[1].bases.equal(alone[1].bases),
        "forgotten": pickled[1].processes.group is None,
        "state": sorted(alone[1].state_dict()) == sorted(make()[1].state_dict()),
    }


def heads(rank):
    network = make(heads=4, value_conv=True)
    step(DistributedDataParallel(network), images(rank))
    return {"bases": network[1].bases, "gradient": network[1].value.weight.grad}


def joined(rank):
    wrapped = DistributedDataParallel(make())
    try:
        with wrapped.join(throw_on_early_termination=True):
            for _ in range(3 - rank):
                step(wrapped, images(rank))
    except RuntimeError as error:
        return {"error": str(error)}
    return {}


def waiting(rank):
    group = distributed.new_group(timeout=datetime.timedelta(seconds=2))
    network, message = make(process_group=group), ""
    if rank == 0:
        try:
            network(images(rank))
        except RuntimeError as error:
            message = str(error)
    distributed.barrier()
    return {"error": message}


SCENES = (unfrozen, nothing_on_one, nan_on_one, checkpointed, groups, heads, joined, waiting)


def _run(rank, port, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    found = {scene.__name__: scene(rank) for scene in SCENES}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each scene returned, on both processes."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_run, (port, str(folder)), nprocs=2)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return {scene.__name__: [own[scene.__name__] for own in ranks] for scene in SCENES}


def test_a_network_frozen_and_unfrozen_trains_but_its_first_conv_and_says_so(found):
    for own in found["unfrozen"]:
        assert own["told"]
        assert own["unmoved"]
    first, second = found["unfrozen"]
    torch.testing.assert_close(first["bases"], second["bases"])


def test_a_process_without_images_gives_an_empty_batch(found):
    network = make()
    step(network, images(0))
    for own in found["nothing_on_one"]:
        torch.testing.assert_close(own["bases"], network[1].bases)
        assert own["gradient"].isfinite().all()


def test_a_bad_batch_on_one_process_moves_no_bases_on_any(found):
    assert [own["unmoved"] for own in found["nan_on_one"]] == [True, True]


def test_checkpointing_asks_the_other_processes_once(found):
    network = make(gradient="unrolled")
    network(torch.cat([images(0), images(1)]))
    for own in found["checkpointed"]:
        torch.testing.assert_close(own["bases"], network[1].bases)


def test_a_group_of_ones_own_is_kept_by_copies_and_forgotten_by_pickles(found):
    for rank, own in enumerate(found["groups"]):
        network = make()
        network(images(rank))
        torch.testing.assert_close(own["bases"], network[1].bases)
        assert own["copied"]
        assert own["forgotten"]
        assert own["state"]


def test_heads_and_values_are_averaged_over_the_processes(found):
    whole = make(heads=4, value_conv=True)
    whole(torch.cat([images(0), images(1)]))
    for own in found["heads"]:
        torch.testing.assert_close(own["bases"], whole[1].bases)
        assert own["gradient"].any()
    first, second = found["heads"]
    torch.testing.assert_close(first["gradient"], second["gradient"])


def test_a_process_that_runs_out_of_images_ends_all_under_join(found):
    for own in found["joined"]:
        assert "exhausted" in own["error"]


def test_who_waits_in_vain_is_told_why(found):
    message = found["waiting"][0]["error"]
    assert "has not run the unit in training mode as often as this one" in message
    assert "process_group=torch.distributed.new_group(timeout=...)" in message


def test_alone_too_an_unfrozen_conv1_is_named_and_keeps_no_gradient():
    unit = make()[1].requires_grad_(True)
    with pytest.warns(UserWarning, match="conv1 of an EMAU requires a gradient"):
        unit(torch.randn(2, 8, 5, 5, requires_grad=True)).sum().backward()
    assert unit.conv1.weight.grad is None
    assert unit.conv2.weight.grad is not None
