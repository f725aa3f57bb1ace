"""Golden inputs, outputs and gradients of every engine operation, by PyTorch (and timm for what only timm has).

Writes `goldens/operations.safetensors`. Names are `CASE.NAME`: inputs and parameters under their own names, the result
as `y`, the random upstream gradient as `grad_y`, and gradients as `grad_` + the name of what they belong to. Scalars
that define a case (epsilon, temperature…) stand beside it as tensors of one element.

    python tools/golden/operations.py
"""

from pathlib import Path

import timm.layers
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from timm.layers.conv2d_same import conv2d_same
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models.beit import gen_relative_position_index

OUT = Path(__file__).resolve().parents[2] / "goldens" / "operations.safetensors"
GENERATOR = torch.Generator().manual_seed(20201022)
tensors: dict[str, torch.Tensor] = {}


def normal(*shape, std=1.0, mean=0.0):
    return torch.randn(*shape, generator=GENERATOR) * std + mean


def store(name, tensor):
    assert name not in tensors, name
    tensors[name] = tensor.detach().clone().contiguous()


def case(name, function, differentiable, constant=None, scalar=None, extra=None):
    """Runs `function(**inputs)`, keeps inputs, result and gradients. A tuple result: first is `y`, then `extra`."""
    constant, scalar = constant or {}, scalar or {}
    leaves = {key: value.clone().requires_grad_() for key, value in differentiable.items()}
    result = function(**leaves, **constant, **scalar)
    others = []
    if isinstance(result, tuple):
        result, *others = result
    for key, value in {**leaves, **constant}.items():
        store(f"{name}.{key}", value)
    for key, value in scalar.items():
        store(f"{name}.{key}", torch.tensor([float(value)]))
    store(f"{name}.y", result)
    for key, value in zip(extra or [], others):
        store(f"{name}.{key}", value)
    upstream = normal(*result.shape) if result.ndim else torch.tensor(1.0)
    store(f"{name}.grad_y", upstream)
    result.backward(upstream)
    for key, leaf in leaves.items():
        store(f"{name}.grad_{key}", leaf.grad)


def linear():
    def inputs():
        return dict(x=normal(2, 7, 24), weight=normal(37, 24, std=0.3), bias=normal(37))

    case("linear", lambda x, weight, bias: F.linear(x, weight, bias), inputs())
    no_bias = inputs()
    del no_bias["bias"]
    case("linear_without_bias", lambda x, weight: F.linear(x, weight), no_bias)
    case("linear_gelu", lambda x, weight, bias: F.gelu(F.linear(x, weight, bias)), inputs())
    case(
        "linear_scale_residual",
        lambda x, weight, bias, scale, residual: residual + scale * F.linear(x, weight, bias),
        dict(**inputs(), scale=normal(37), residual=normal(2, 7, 37)),
    )
    case(
        "linear_gelu_residual",
        lambda x, weight, bias, scale, residual: residual + scale * F.gelu(F.linear(x, weight, bias)),
        dict(**inputs(), scale=normal(37), residual=normal(2, 7, 37)),
    )


def norms():
    for name, width, eps in [("layer_norm_40", 40, 1e-6), ("layer_norm_37", 37, 1e-6), ("layer_norm_1e_12", 24, 1e-12)]:
        case(
            name,
            lambda x, weight, bias, epsilon: F.layer_norm(x, x.shape[-1:], weight, bias, epsilon),
            dict(x=normal(2, 5, width, std=2.0, mean=3.0), weight=normal(width), bias=normal(width)),
            scalar=dict(epsilon=eps),
        )
    # A row of one value has no variance: the epsilon alone decides.
    flat = normal(2, 3, 40)
    flat[0, 1] = 0.75
    case(
        "layer_norm_flat_row",
        lambda x, weight, bias, epsilon: F.layer_norm(x, x.shape[-1:], weight, bias, epsilon),
        dict(x=flat, weight=normal(40), bias=normal(40)),
        scalar=dict(epsilon=1e-6),
    )
    for name, width in [("rms_norm_40", 40), ("rms_norm_37", 37)]:
        case(
            name,
            lambda x, weight, epsilon: F.rms_norm(x, x.shape[-1:], weight, epsilon),
            dict(x=normal(2, 5, width, std=2.0, mean=1.0), weight=normal(width)),
            scalar=dict(epsilon=1e-6),
        )
    group = dict(x=normal(2, 64, 5, 3, std=2.0, mean=1.0), weight=normal(64), bias=normal(64))
    case(
        "group_norm",
        lambda x, weight, bias, groups, epsilon: F.group_norm(x, int(groups), weight, bias, epsilon),
        group,
        scalar=dict(groups=32, epsilon=1e-5),
    )
    case(
        "group_norm_relu",
        lambda x, weight, bias, groups, epsilon: F.relu(F.group_norm(x, int(groups), weight, bias, epsilon)),
        group,
        scalar=dict(groups=32, epsilon=1e-5),
    )
    case(
        "batch_norm",
        lambda x, weight, bias, mean, variance, epsilon: F.batch_norm(x, mean, variance, weight, bias, False, 0.1, epsilon),
        dict(x=normal(2, 6, 4, 3), weight=normal(6), bias=normal(6)),
        constant=dict(mean=normal(6), variance=normal(6).abs() + 0.2),
        scalar=dict(epsilon=1e-5),
    )


def attention():
    batch, tokens, heads, head_width = 2, 11, 3, 8

    def attend(qkv, scale, mask=None, bias=None):
        q, k, v = qkv.view(batch, tokens, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * scale
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        weights = scores.softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * head_width), weights

    def qkv(std=1.0):
        return normal(batch, tokens, 3 * heads * head_width, std=std)

    plain = head_width**-0.5
    case("attention", attend, dict(qkv=qkv()), scalar=dict(scale=plain), extra=["weights"])
    case("attention_sharp", attend, dict(qkv=qkv(6.0)), scalar=dict(scale=plain), extra=["weights"])
    mask = torch.ones(batch, tokens, dtype=torch.uint8)
    mask[0, [3, 4, 10]] = 0
    mask[1, 1:9] = 0
    case(
        "attention_mask", attend, dict(qkv=qkv()), constant=dict(mask=mask), scalar=dict(scale=plain), extra=["weights"]
    )
    case(
        "attention_bias",
        attend,
        dict(qkv=qkv(), bias=normal(heads, tokens, tokens)),
        scalar=dict(scale=0.25),
        extra=["weights"],
    )


def activations():
    wide = torch.cat([torch.linspace(-14, 14, 113), normal(111, std=2.0), torch.tensor([0.0, -0.0, 30.0, -30.0])])
    functions = dict(
        gelu=F.gelu,
        gelu_tanh=lambda x: F.gelu(x, approximate="tanh"),
        quick_gelu=lambda x: x * torch.sigmoid(1.702 * x),
        relu=F.relu,
        silu=F.silu,
        tanh=torch.tanh,
    )
    for name, function in functions.items():
        case(name, lambda x, function=function: function(x), dict(x=wide))

    def swiglu(x):
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    case("swiglu", swiglu, dict(x=normal(3, 5, 26, std=2.0)))
    case("softmax", lambda x: x.softmax(-1), dict(x=normal(3, 5, 19, std=4.0)))
    case("log_softmax", lambda x: x.log_softmax(-1), dict(x=normal(6, 19, std=4.0)))


def convolutions():
    for kernel, stride, padding in [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (7, 1, 3)]:
        case(
            f"conv2d_{kernel}_stride_{stride}",
            lambda x, weight, bias, stride, padding: F.conv2d(x, weight, bias, int(stride), int(padding)),
            dict(x=normal(2, 3, 9, 8), weight=normal(4, 3, kernel, kernel, std=0.3), bias=normal(4)),
            scalar=dict(stride=stride, padding=padding),
        )
    for kernel, stride in [(1, 2), (3, 1), (3, 2), (7, 2)]:
        case(
            f"conv2d_same_{kernel}_stride_{stride}",
            lambda x, weight, stride: conv2d_same(x, weight, None, (int(stride),) * 2),
            dict(x=normal(2, 3, 9, 8), weight=normal(4, 3, kernel, kernel, std=0.3)),
            scalar=dict(stride=stride),
        )
    # Weight standardization, through timm's own layers with their own epsilons.
    for name, cls, kernel, stride, eps in [
        ("std_conv2d", timm.layers.StdConv2d, 3, 1, 1e-6),
        ("std_conv2d_1e_8", timm.layers.StdConv2d, 3, 2, 1e-8),
        ("std_conv2d_1x1", timm.layers.StdConv2d, 1, 1, 1e-6),
        ("std_conv2d_same", timm.layers.StdConv2dSame, 3, 2, 1e-6),
        ("std_conv2d_same_1e_8", timm.layers.StdConv2dSame, 7, 2, 1e-8),
        ("std_conv2d_same_1e_5", timm.layers.StdConv2dSame, 3, 1, 1e-5),
    ]:

        def standardized(x, weight, stride, epsilon, cls=cls, kernel=kernel):
            conv = cls(x.shape[1], weight.shape[0], kernel, stride=int(stride), bias=False, eps=epsilon)
            del conv.weight
            conv.weight = weight
            flat = F.batch_norm(weight.reshape(1, weight.shape[0], -1), None, None, training=True, momentum=0.0, eps=epsilon)
            return conv(x), flat.reshape_as(weight)

        case(
            name,
            standardized,
            dict(x=normal(2, 5, 9, 8), weight=normal(4, 5, kernel, kernel, std=0.05, mean=0.02)),
            scalar=dict(stride=stride, epsilon=eps),
            extra=["standardized"],
        )
    case(
        "patch_embedding",
        lambda x, weight, bias: F.conv2d(x, weight, bias, stride=(2, 3)).flatten(2).transpose(1, 2),
        dict(x=normal(2, 3, 8, 9), weight=normal(10, 3, 2, 3, std=0.3), bias=normal(10)),
    )


def pools():
    x = normal(2, 4, 9, 8) - 3.0  # negative, so that a zero pad would show
    case("max_pool", lambda x: F.max_pool2d(x, 3, 2, 1), dict(x=x))
    case("max_pool_same", lambda x: MaxPool2dSame(3, 2)(x), dict(x=x))
    case("max_pool_same_odd", lambda x: MaxPool2dSame(3, 2)(x), dict(x=normal(1, 2, 7, 10) - 3.0))
    case("avg_pool", lambda x: F.avg_pool2d(x, 2, 2), dict(x=x))
    case("global_avg_pool", lambda x: x.mean((2, 3)), dict(x=x))


def losses():
    labels = torch.tensor([0, 6, 3, 3, 1], dtype=torch.int64)
    hard = dict(labels=labels)
    case("cross_entropy", lambda x, labels: F.cross_entropy(x, labels), dict(x=normal(5, 7, std=3.0)), constant=hard)
    case(
        "cross_entropy_smoothed",
        lambda x, labels, smoothing: F.cross_entropy(x, labels, label_smoothing=smoothing),
        dict(x=normal(5, 7, std=3.0)),
        constant=hard,
        scalar=dict(smoothing=0.1),
    )
    soft = normal(5, 7).softmax(-1)
    case("cross_entropy_soft", lambda x, targets: F.cross_entropy(x, targets), dict(x=normal(5, 7, std=3.0)), constant=dict(targets=soft))
    case(
        "bce_with_logits",
        lambda x, targets: F.binary_cross_entropy_with_logits(x, targets),
        dict(x=normal(5, 7, std=8.0)),
        constant=dict(targets=(normal(5, 7) > 0.5).float() * 0.9 + 0.05),
    )
    for name, temperature in [("kl_div", 3.0), ("kl_div_1", 1.0)]:
        case(
            name,
            lambda student, teacher, temperature: F.kl_div(
                (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1), reduction="batchmean"
            ),
            dict(student=normal(5, 7, std=3.0)),
            constant=dict(teacher=normal(5, 7, std=3.0)),
            scalar=dict(temperature=temperature),
        )


def class_losses():
    """Losses with weights of classes, and focal losses. They have a generator of their own: cases may be added before."""
    generator = torch.Generator().manual_seed(20170802)

    def normal(*shape, std=1.0):
        return torch.randn(*shape, generator=generator) * std

    weight = torch.tensor([0.25, 1.0, 3.0, 0.5, 2.0, 1.5, 0.1])
    labels = torch.tensor([0, 6, 3, 3, 1], dtype=torch.int64)
    soft = normal(5, 7).softmax(-1)
    yes_or_no = (normal(5, 7) > 0.5).float() * 0.9 + 0.05

    # PyTorch divides by the weights of hard labels, by the samples where targets are distributions.
    case(
        "weighted_cross_entropy_hard",
        lambda x, labels, weight: F.cross_entropy(x, labels, weight, reduction="sum") / len(labels),
        dict(x=normal(5, 7, std=3.0)),
        constant=dict(labels=labels, weight=weight),
    )
    weighted = dict(targets=soft, weight=weight)
    case(
        "weighted_cross_entropy",
        lambda x, targets, weight: F.cross_entropy(x, targets, weight),
        dict(x=normal(5, 7, std=3.0)),
        constant=weighted,
    )
    case(
        "weighted_bce",
        lambda x, targets, weight: F.binary_cross_entropy_with_logits(x, targets, pos_weight=weight),
        dict(x=normal(5, 7, std=4.0)),
        constant=dict(targets=yes_or_no, weight=weight),
    )

    # The definitions (arXiv:1708.02002, equation 4), summed over distributions.
    def focal(x, targets, weight, gamma):
        log = x.log_softmax(-1)
        return -(weight * targets * (1 - log.exp()) ** gamma * log).sum(-1).mean()

    def binary_focal(x, targets, weight, gamma):
        p = x.sigmoid()
        yes = weight * targets * (1 - p) ** gamma * F.logsigmoid(x)
        return -(yes + (1 - targets) * p**gamma * F.logsigmoid(-x)).mean()

    for name, gamma in [("2", 2.0), ("half", 0.5)]:
        case(f"focal_{name}", lambda x, targets, weight, g=gamma: focal(x, targets, weight, g), dict(x=normal(5, 7)), weighted)
        case(
            f"binary_focal_{name}",
            lambda x, targets, weight, g=gamma: binary_focal(x, targets, weight, g),
            dict(x=normal(5, 7)),
            dict(targets=yes_or_no, weight=weight),
        )
    case(
        "torchvision_focal",
        lambda x, targets: torchvision.ops.sigmoid_focal_loss(x, targets, alpha=-1, gamma=2, reduction="mean"),
        dict(x=normal(5, 7)),
        constant=dict(targets=(normal(5, 7) > 0.5).float()),
    )


def positions():
    def resample(x, size, **kwargs):
        return F.interpolate(x.permute(2, 0, 1)[None], size=size, **kwargs)[0].permute(1, 2, 0)

    for height, width in [(8, 9), (4, 4), (14, 3)]:
        for name, options in [
            ("bicubic", dict(mode="bicubic", antialias=False, align_corners=False)),
            ("bicubic_antialias", dict(mode="bicubic", antialias=True, align_corners=False)),
            ("linear_aligned", dict(mode="bilinear", align_corners=True)),
        ]:
            case(
                f"resample_{name}_{height}x{width}",
                lambda x, options=options, size=(height, width): resample(x, size, **options),
                dict(x=normal(5, 7, 6)),
            )


def attention_weights():
    """Gradients of the attention weights themselves. A generator of its own: the cases before keep their numbers."""
    batch, tokens, heads, head_width = 2, 7, 3, 8
    generator = torch.Generator().manual_seed(210315679)
    mask = torch.ones(batch, tokens, dtype=torch.uint8)
    mask[0, [2, 6]] = 0
    for name, masked in [("attention_weights", False), ("attention_weights_mask", True)]:
        qkv = torch.randn(batch, tokens, 3 * heads * head_width, generator=generator).requires_grad_()
        upstream = torch.randn(batch, tokens, heads * head_width, generator=generator)
        q, k, v = qkv.view(batch, tokens, 3, heads, head_width).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * head_width**-0.5
        if masked:
            scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
            store(f"{name}.mask", mask)
        weights = scores.softmax(-1)
        weights.retain_grad()
        (weights @ v).transpose(1, 2).reshape(batch, tokens, heads * head_width).backward(upstream)
        store(f"{name}.qkv", qkv)
        store(f"{name}.grad_y", upstream)
        store(f"{name}.grad_qkv", qkv.grad)
        store(f"{name}.grad_weights", weights.grad)


def relative_positions():
    """Positions inside attention: tables of relative positions (timm's BEiT) and rotary positions (timm's DINOv3)."""
    window, heads = (2, 3), 3
    indices = gen_relative_position_index(window)
    entries = (2 * window[0] - 1) * (2 * window[1] - 1) + 3
    case(
        "relation_bias",
        lambda table, indices: table[indices.view(-1)].view(*indices.shape, -1).permute(2, 0, 1),
        dict(table=normal(entries, heads)),
        constant=dict(indices=indices),
    )
    for height, width in [(8, 9), (4, 4), (14, 3)]:
        case(
            f"resample_linear_{height}x{width}",
            lambda x, size=(height, width): F.interpolate(x.permute(2, 0, 1)[None], size, mode="bilinear")[0].permute(1, 2, 0),
            dict(x=normal(5, 7, 6)),
        )
    for new in [(5, 7), (2, 6), (7, 2)]:
        rows, columns = (2 * new[0] - 1, 2 * new[1] - 1)
        table = normal(5 * 7, 6)
        store(f"resample_geometric_{rows}x{columns}.x", table)
        resized = timm.layers.resize_rel_pos_bias_table(table, new, (rows * columns, 6), old_window_size=(3, 4))
        store(f"resample_geometric_{rows}x{columns}.y", resized)

    batch, prefix, patches, pairs = 2, 2, 5, 4

    def rotate(qkv, angles):
        embedding = torch.cat([angles.sin().tile(2), angles.cos().tile(2)], -1)
        q, k, v = qkv.view(batch, prefix + patches, 3, heads, 2 * pairs).permute(2, 0, 3, 1, 4)
        q, k = [
            torch.cat([x[:, :, :prefix], timm.layers.apply_rot_embed_cat(x[:, :, prefix:], embedding, half=True)], 2)
            for x in (q, k)
        ]
        return torch.stack([q, k, v]).permute(1, 3, 0, 2, 4).reshape(qkv.shape)

    qkv = normal(batch, prefix + patches, 3 * heads * 2 * pairs)
    case("rotary", rotate, dict(qkv=qkv), constant=dict(angles=normal(patches, pairs, std=3.0)))


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for group in [linear, norms, attention, activations, convolutions, pools, losses, positions, attention_weights, relative_positions, class_losses]:
        group()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT)
    print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
