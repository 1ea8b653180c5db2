"""The 29 networks that SpikingJelly ships, at sizes that keep their structure: 24 of its models, 5 of its examples.

Sizes that the constructors allow are given to them. Where a constructor has a width of its own (the classifiers of
SpikingVGG and SpikeDHS), the layer is replaced by a narrower one after construction; `Entry.note` says so.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

IMAGE, EVENTS, SEQUENCE = "image", "events", "sequence"
STEPS, HELD, LOOP = "steps", "held", "loop"
STAND_INS = ("torchvision", "torchaudio")


class _StandIn(ModuleType):
    """An empty module: any name in it is a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stand_ins() -> list[str]:
    """Puts empty modules in the place of those of `STAND_INS` that cannot be imported, and gives their names.

    SpikingJelly's ResNets and VGGs import one name of torchvision, to fetch weights; its examples import data sets and
    transforms of torchvision and torchaudio. No network needs them. Their binaries must match torch's build exactly.
    """
    replaced = []
    for name in STAND_INS:
        if isinstance(sys.modules.get(name), _StandIn):
            replaced.append(name)
            continue
        try:
            import_module(name)
        except (ImportError, OSError, RuntimeError):
            for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[loaded]
            for part in ("", ".models", ".models.utils", ".datasets", ".datasets.utils", ".transforms", ".functional",
                         ".datasets.speechcommands", ".transforms.functional"):  # fmt: skip
                sys.modules[name + part] = _StandIn(name + part)
            replaced.append(name)
    return replaced


@dataclass(frozen=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: As in the table.
        origin: Module below `spikingjelly.activation_based` that has it.
        make: Gives it, untrained; called with the imported module.
        shape: Of one step of one sample.
        steps: T.
        time: How the steps reach it: "steps", (T, B, ...) in one call; "held", (B, ...), which it repeats itself;
            "loop", (B, ...) in a call for each step.
        carries: What the input holds: images in [0, 1], counts of events, or a sequence of normal values.
        refused: What of it no graph can say; empty where it is to be exported.
        note: What was made smaller after construction.
    """

    name: str
    origin: str
    make: Callable[[Any], nn.Module]
    shape: tuple[int, ...]
    steps: int = 4
    time: str = STEPS
    carries: str = IMAGE
    refused: str = ""
    note: str = ""

    def network(self, seed: int = 0) -> nn.Module:
        """The network in eval mode with random weights, multi-step where it is not called step by step."""
        from spikingjelly.activation_based import functional

        stand_ins()
        torch.manual_seed(seed)
        net = self.make(import_module(f"spikingjelly.activation_based.{self.origin}"))
        if self.time != LOOP and self.origin != "model.snas_net":  # whose single-step parts it calls itself
            functional.set_step_mode(net, "m")
        return net.eval()

    def inputs(self, samples: int, seed: int = 1) -> torch.Tensor:
        """An input as the network takes it, float32: (T, B, ...), or (B, ...) that it holds."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand((1 if self.time == HELD else self.steps, samples, *self.shape), generator=generator)
        if self.carries == EVENTS:  # of every pixel, mostly none
            x = torch.poisson(0.4 * x, generator=generator)
        elif self.carries == SEQUENCE:
            x = torch.randn(x.shape, generator=generator)
        return x[0] if self.time == HELD else x


class TimeFirst(nn.Module):
    """Takes (T, B, C, F) where a network wants (B, C, T, F)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(T, B, C, F) -> what the network gives."""
        result: torch.Tensor = self.net(x.permute(1, 2, 0, 3))
        return result


def _spiking(**options: Any) -> dict[str, Any]:
    """The neuron that SpikingJelly's own examples give to its models."""
    from spikingjelly.activation_based import neuron, surrogate

    return {
        "spiking_neuron": neuron.LIFNode,
        "surrogate_function": surrogate.ATan(),
        "detach_reset": True,
        "tau": 2.0,
        **options,
    }


def _integrating() -> dict[str, Any]:
    from spikingjelly.activation_based import neuron, surrogate

    return {"spiking_neuron": neuron.IFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}


def _parametric() -> dict[str, Any]:
    """As in the paper that the networks of `parametric_lif_net` are of."""
    from spikingjelly.activation_based import neuron, surrogate

    return {"spiking_neuron": neuron.ParametricLIFNode, "surrogate_function": surrogate.ATan(), "detach_reset": True}


def _plif(name: str) -> Callable[[Any], nn.Module]:
    return lambda module: getattr(module, name)(channels=8, **_parametric())


VGG11 = [8, "M", 16, "M", 16, 16, "M", 32, 32, "M", 32, 512, "M"]
OTTT_S = [8, 16, "A", 16, 16, "A", 32, 32, "A", 32, 512]


def _vgg(module: Any, *, batch_norm: bool) -> nn.Module:
    from spikingjelly.activation_based import layer

    options = _integrating()
    node, kwargs = options.pop("spiking_neuron"), options
    cfg = [*VGG11[:-2], 32, "M"]
    net: nn.Module = module.SpikingVGG(
        cfg, batch_norm, num_classes=10, spiking_neuron=node, init_weights=False, **kwargs
    )
    net.classifier[0] = layer.Linear(32 * 7 * 7, 64)
    net.classifier[3] = layer.Linear(64, 64)
    net.classifier[6] = layer.Linear(64, 10)
    return net


def _ottt(module: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron

    return module.OTTTSpikingVGG(OTTT_S, spiking_neuron=neuron.OTTTLIFNode, num_classes=10, tau=2.0)


def _snas(module: Any, *, backward: bool) -> nn.Module:
    """Every operation of its search space: none, skip, 1 x 1 and 3 x 3 convolution, average pool."""
    cell = torch.tensor([[0, 3, 4, 1], [3, 0, 2, 4], [2, 1, 0, 3], [4, 3, 2, 0]])
    options = Namespace(
        timestep=3, second_avgpooling=8, dataset="cifar100", threshold=1.0, tau=4 / 3,
        celltype="backward" if backward else "forward",
    )  # fmt: skip
    return module.SNASNet(options, cell)


def _dhs(module: Any) -> nn.Module:
    options = Namespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3, fea_filter_multiplier=4)
    net = module.SpikeDHS(3, options)
    net.classifier = module.SpikingLinear(3 * 4 * 4, 10, spiking=False)
    net._time_step = 3  # no argument of its constructor
    return net


def _named(name: str, **options: Any) -> Callable[[Any], nn.Module]:
    return lambda module: getattr(module, name)(**options)


def _resnet(name: str, **options: Any) -> Callable[[Any], nn.Module]:
    return lambda module: getattr(module, name)(num_classes=10, **options, **_spiking())


_EXAMPLES = "examples."
_NARROW = "classifier narrowed after construction: its 4,096 units are fixed"

NETWORKS: tuple[Entry, ...] = (
    Entry("MNISTNet", "model.parametric_lif_net", _plif("MNISTNet"), (1, 28, 28)),
    Entry("FashionMNISTNet", "model.parametric_lif_net", _plif("FashionMNISTNet"), (1, 28, 28)),
    Entry("NMNISTNet", "model.parametric_lif_net", _plif("NMNISTNet"), (2, 34, 34), carries=EVENTS),
    Entry("CIFAR10Net", "model.parametric_lif_net", _plif("CIFAR10Net"), (3, 32, 32)),
    Entry("CIFAR10DVSNet", "model.parametric_lif_net", _plif("CIFAR10DVSNet"), (2, 128, 128), 2, carries=EVENTS),
    Entry("DVSGestureNet", "model.parametric_lif_net", _plif("DVSGestureNet"), (2, 128, 128), 2, carries=EVENTS),
    Entry("spiking_vgg11", "model.spiking_vgg", partial(_vgg, batch_norm=False), (3, 32, 32), note=_NARROW),
    Entry("spiking_vgg11_bn", "model.spiking_vgg", partial(_vgg, batch_norm=True), (3, 32, 32), note=_NARROW),
    Entry("ottt_spiking_vggws", "model.spiking_vggws_ottt", _ottt, (3, 32, 32), time=LOOP),
    Entry("spiking_resnet18", "model.spiking_resnet", _resnet("spiking_resnet18"), (3, 32, 32)),
    Entry("sew_resnet18", "model.sew_resnet", _resnet("sew_resnet18", cnf="ADD"), (3, 32, 32)),
    Entry("ms_resnet18", "model.ms_resnet",
          _named("MSResNet", T=3, num_classes=10, base_channels=16), (3, 32, 32), 3, HELD),
    Entry("max_resnet18", "model.ms_resnet",
          _named("MaxResNet", T=3, num_classes=10, layers=(3, 3, 2), base_channels=16, stage_channels=(16, 32, 64),
                 stem_kernel_size=3, stem_stride=1), (3, 32, 32), 3, HELD),
    Entry("att_ms_resnet18", "model.masnn",
          _named("AttMSResNet", T=2, num_classes=10, base_channels=16), (3, 32, 32), 2,
          refused="attention by sigmoid, Conv3d"),
    Entry("masnn_dvs128_gesture", "model.masnn", _named("MASNN", T=4, channels=(8, 16, 16), reduction_t=2), (2, 32, 32),
          carries=EVENTS, refused="attention by sigmoid over the steps, Conv3d"),
    Entry("spikformer_ti", "model.spikformer",
          _named("Spikformer", T=4, img_size_h=64, img_size_w=64, patch_size=16, num_classes=10, embed_dims=64,
                 num_heads=4, depths=2), (3, 64, 64), 4, HELD),
    Entry("spikformer_cifar10", "model.spikformer",
          _named("Spikformer", T=4, img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64,
                 num_heads=4, depths=2), (3, 32, 32)),
    Entry("sdt_8_384", "model.spike_driven_transformer",
          _named("SpikeDrivenTransformer", T=4, num_classes=10, embed_dims=64, num_heads=4, depths=2),
          (3, 64, 64), 4, HELD),
    Entry("qkformer_10_384", "model.qkformer",
          _named("QKFormer", T=4, num_classes=10, embed_dims=64, num_heads=(2, 4, 4), depths=(1, 1, 2)), (3, 64, 64)),
    Entry("maxformer_10_384", "model.maxformer",
          _named("MaxFormer", T=4, num_classes=10, embed_dims=64, depths=(1, 1, 2)), (3, 64, 64)),
    Entry("maxformer_cifar", "model.maxformer",
          _named("MaxFormer", T=4, num_classes=10, embed_dims=64, depths=(1, 1, 2), cifar=True), (3, 32, 32), 4, HELD),
    Entry("snasnet_forward", "model.snas_net", partial(_snas, backward=False), (3, 32, 32), 3, HELD),
    Entry("snasnet_backward", "model.snas_net", partial(_snas, backward=True), (3, 32, 32), 3, HELD),
    Entry("spike_dhs", "model.spike_dhs", _dhs, (3, 32, 32), 3, HELD, note="classifier narrowed after construction"),
    Entry("CSNN", _EXAMPLES + "conv_fashion_mnist", _named("CSNN", T=4, channels=8), (1, 28, 28), 4, HELD),
    Entry("rsnn PlainNet", _EXAMPLES + "rsnn_sequential_fmnist", _named("PlainNet"), (28,), 28, carries=IMAGE),
    Entry("rsnn StatefulSynapseNet", _EXAMPLES + "rsnn_sequential_fmnist", _named("StatefulSynapseNet"), (28,), 28),
    Entry("rsnn FeedBackNet", _EXAMPLES + "rsnn_sequential_fmnist", _named("FeedBackNet"), (28,), 28),
    Entry("speech_commands Net", _EXAMPLES + "speech_commands", lambda module: TimeFirst(module.Net()), (1, 40), 20,
          carries=SEQUENCE, note="time is its third axis: transposed before it"),
)  # fmt: skip

VARIANTS: tuple[Entry, ...] = (
    Entry("sew_resnet18 AND", "model.sew_resnet", _resnet("sew_resnet18", cnf="AND"), (3, 32, 32)),
    Entry("sew_resnet18 IAND", "model.sew_resnet", _resnet("sew_resnet18", cnf="IAND"), (3, 32, 32)),
    Entry("spiking_resnext50_32x4d", "model.spiking_resnet", _resnet("spiking_resnext50_32x4d"), (3, 32, 32), 2),
    Entry("qkformer channel", "model.qkformer",
          _named("QKFormer", T=4, num_classes=10, embed_dims=64, num_heads=(2, 4, 4), depths=(1, 1, 1),
                 qka_type="channel"), (3, 64, 64)),
)  # fmt: skip
"""Not of the 29: options of the same classes that need other operations."""


def chosen(names: Iterable[str]) -> list[Entry]:
    """Entries of these names, of the 29 and their variants.

    Raises:
        KeyError: There is none of a name.
    """
    known = {entry.name: entry for entry in (*NETWORKS, *VARIANTS)}
    return [known[name] for name in names]
