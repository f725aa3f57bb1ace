"""Golden explanations of tiny models of `goldens/models`, by PyTorch's gradients and NumPy written from the papers.

Writes `goldens/explain.safetensors`; names are `CASE.NAME`. Everything is of the case's first image and class 1, save
`distance` and `entropy`, which are means over both images. Whole matrices are multiplied here where Vitral sends rows
through the layers, so that the two share nothing but the definition.

    python tools/golden/explain.py
"""

import json

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file

from common import MODELS
from models_timm import attention_modules, use_plain_attention

OUT = MODELS.parent / "explain.safetensors"
CLASS = 1
CASES = {
    # What the answer is read from: class token, both tokens, all patches.
    "timm_plain": "class",
    "timm_registers": "class",
    "timm_rectangular": "class",
    "timm_deit_distilled": "both",
    "timm_avg": "patches",
    "timm_avg_fc_norm_off": "patches",
    "timm_no_class_token": "patches",
    "timm_parallel_pairs": "class",
}


def load(case):
    config = json.loads((MODELS / case / "config.json").read_text())
    model = timm.create_model(config["architecture"], **config["model_args"]).eval()
    model.load_state_dict(load_file(MODELS / case / "model.safetensors"))
    use_plain_attention(model)
    return model


def input_norms(block):
    """What stands before the attentions of a block."""
    return [pair.norm for pair in block.attns] if hasattr(block, "attns") else [block.norm1]


class Tape:
    """Attention weights and inputs of every block, and what is pooled, with their gradients after `backward`."""

    def __init__(self, model):
        self.weights, self.inputs, self.pooled = [], [], []
        model.norm.register_forward_hook(lambda m, i, o: self.keep(o, self.pooled))
        for block in model.blocks:
            weights, inputs = [], []
            self.weights.append(weights)
            self.inputs.append(inputs)
            for module in attention_modules(block):
                module.attn_drop.register_forward_hook(lambda m, i, o, to=weights: self.keep(o, to))
            for module in input_norms(block):
                module.register_forward_hook(lambda m, i, o, to=inputs: self.keep(o, to))

    @staticmethod
    def keep(tensor, to):
        if tensor.requires_grad:
            tensor.retain_grad()
        to.append(tensor)

    def clear(self):
        for kept in self.weights + self.inputs + [self.pooled]:
            kept.clear()


def numpy(tensor):
    return tensor.detach().double().numpy()


def of_layers(tape, image):
    """Weights and their gradients, [heads, tokens, tokens] of each layer."""
    join = lambda parts: np.concatenate([numpy(part)[image] for part in parts])
    return [join(parts) for parts in tape.weights], [join([part.grad for part in parts]) for parts in tape.weights]


def rollout(layers, prefix, discard=0.0, identity=True):
    tokens = layers[0].shape[-1]
    whole = np.eye(tokens)
    for fused in layers:
        fused = fused.copy()
        if discard:
            patches = [(fused[i, j], i * tokens + j) for i in range(tokens) for j in range(prefix, tokens)]
            for _, place in sorted(patches)[: int(discard * len(patches))]:
                fused[place // tokens, place % tokens] = 0
        mixed = (fused + np.eye(tokens)) / 2 if identity else fused
        sums = mixed.sum(-1, keepdims=True)
        whole = np.divide(mixed, sums, out=np.zeros_like(mixed), where=sums > 0) @ whole
    return whole


def relevance(layers):
    whole = np.eye(layers[0].shape[-1])
    for layer in layers:
        whole = whole + layer @ whole
    return whole


def mean_distance(weights, prefix, grid, patch):
    """[heads]: mean over queries of the sum over keys of weight times distance between the centers in pixels."""
    centers = np.array([((row + 0.5) * patch[0], (column + 0.5) * patch[1])
                        for row in range(grid[0]) for column in range(grid[1])])
    pixels = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    return (weights[:, prefix:, prefix:] * pixels).sum(-1).mean(-1)


def cams(values, gradient):
    """Class activation maps of [patches, width], as pytorch-grad-cam's definitions read."""
    positive = lambda x: np.maximum(x, 0)
    squares, cubes = gradient**2, gradient**3
    alpha = np.where(gradient != 0, squares / (2 * squares + values.sum(0) * cubes + 1e-6), 0)
    centered = values - values.mean(0)
    first = np.linalg.svd(centered, full_matrices=False)[2][0]
    eigen = centered @ first
    return {
        "gradcam": positive(values @ gradient.mean(0)),
        "gradcam++": positive(values @ (alpha * positive(gradient)).sum(0)),
        "xgradcam": positive(values @ ((values * gradient).sum(0) / (values.sum(0) + 1e-7))),
        "hirescam": positive((values * gradient).sum(-1)),
        "layercam": positive((values * positive(gradient)).sum(-1)),
        "eigencam": eigen * np.sign((eigen**3).sum()),
    }


def integrated(model, pixels, steps):
    total = torch.zeros_like(pixels)
    for step in range(steps):
        point = ((step + 0.5) / steps * pixels).requires_grad_()
        total += torch.autograd.grad(model(point)[:, CLASS].sum(), point)[0]
    return pixels * total / steps


def hsic(k, l):
    """The unbiased estimator, written out as in arXiv:2010.15327."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    one = np.ones(n)
    return (np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def likeness(model, pixels):
    """CKA of the tokens before the first block and after each."""
    states = []
    handles = [block.register_forward_pre_hook(lambda m, i: states.append(i[0])) for block in model.blocks[:1]]
    handles += [block.register_forward_hook(lambda m, i, o: states.append(o)) for block in model.blocks]
    with torch.no_grad():
        model(torch.cat([pixels, 0.5 * pixels.flip(0), -pixels]))
    for handle in handles:
        handle.remove()
    grams = []
    for state in states:
        rows = numpy(state).reshape(len(state), -1)
        rows = rows - rows.mean(0)
        grams.append(rows @ rows.T)
    return np.array([[hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)) for b in grams] for a in grams])


def effective_rank(tokens):
    singular = np.linalg.svd(tokens, compute_uv=False)
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return np.exp(-(shares * np.log(shares)).sum())


def explain(case, readout):
    model = load(case)
    pixels = load_file(MODELS / case / "input.safetensors")["pixel_values"]
    prefix, grid, patch = model.num_prefix_tokens, model.patch_embed.grid_size, model.patch_embed.patch_size
    tokens = prefix + grid[0] * grid[1]
    readers = np.zeros(tokens)
    if readout == "class":
        readers[0] = 1
    elif readout == "both":
        readers[:2] = 0.5
    else:
        readers[prefix:] = 1 / (tokens - prefix)
    row = lambda whole: (readers @ whole)[prefix:]

    tape = Tape(model)
    with torch.enable_grad():
        watched = pixels.clone().requires_grad_()
        model(watched)[:, CLASS].sum().backward()
    weights, gradients = of_layers(tape, 0)
    fused = {"mean": [w.mean(0) for w in weights], "max": [w.max(0) for w in weights], "min": [w.min(0) for w in weights]}
    agreement = [np.maximum(w * g, 0).mean(0) for w, g in zip(weights, gradients)]
    found = {f"rollout.{name}": row(rollout(layers, prefix)) for name, layers in fused.items()}
    found["rollout.discard"] = row(rollout(fused["mean"], prefix, discard=0.3))
    found["rollout.no_identity"] = row(rollout(fused["mean"], prefix, identity=False))
    found["gradient-rollout"] = row(rollout(agreement, prefix))
    found["chefer"] = row(relevance(agreement))
    found["attention"] = row(fused["mean"][-1])
    found["attention_gradient"] = gradients[0]

    both = [of_layers(tape, image)[0] for image in range(2)]
    found["distance"] = np.mean([[mean_distance(w, prefix, grid, patch) for w in image] for image in both], axis=0)
    entropy = lambda w: -(w * np.log(np.maximum(w, 1e-300))).sum(-1).mean(-1)
    found["entropy"] = np.mean([[entropy(w) for w in image] for image in both], axis=0)

    # What is pooled; what a class token's attention sees, where it alone is read.
    last = tape.pooled if readout == "patches" else tape.inputs[-1]
    values, slopes = zip(*[(numpy(x)[0, prefix:], numpy(x.grad)[0, prefix:]) for x in last])
    for name in cams(values[0], slopes[0]):
        parts = [cams(v, s)[name] for v, s in zip(values, slopes)]
        found[name] = parts[0] if name == "eigencam" else np.sum(parts, axis=0)
    found["gradient"] = numpy(watched.grad)[0]
    found["integrated"] = numpy(integrated(model, pixels[:1], 8))[0]
    tape.clear()
    found["cka"] = likeness(model, pixels)
    state = load_file(MODELS / case / "expected.safetensors")
    found["rank"] = np.array([effective_rank(numpy(state[f"hidden_states.{i}"])[0, prefix:])
                              for i in range(len(model.blocks) + 1)])
    positions = getattr(model, "pos_embed", None)
    if positions is not None:
        patches = numpy(positions)[0][-(tokens - prefix):]
        patches = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
        found["positions"] = patches @ patches.T
    filters = numpy(model.patch_embed.proj.weight).reshape(model.embed_dim, -1)
    filters = filters - filters.mean(0)
    first = np.linalg.svd(filters, full_matrices=False)[2][0]
    found["filter"] = first * np.sign(first[np.abs(first).argmax()])
    return {f"{case}.{name}": torch.from_numpy(np.ascontiguousarray(x)).float() for name, x in found.items()}


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    tensors = {}
    for case, readout in CASES.items():
        tensors |= explain(case, readout)
    save_file(tensors, OUT)
    print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
