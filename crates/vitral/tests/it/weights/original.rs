//! Files that are described by their tensors alone.

use vitral::config::{MlpKind, ModelConfig, Pooling, Positions, Size};
use vitral::model::Vit;
use vitral::weights::{ResolveOptions, load_description, resolve};

use super::{dialect, goldens, specs_of};

/// Writes tensors of a model of width 128 under the original names, all zero.
fn write(path: &std::path::Path, extra: &[(&str, &[usize])], leave_out: &[&str]) {
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("cls_token".into(), vec![1, 1, 128]),
        ("pos_embed".into(), vec![1, 17, 128]),
        ("patch_embed.proj.weight".into(), vec![128, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![128]),
        ("norm.weight".into(), vec![128]),
        ("norm.bias".into(), vec![128]),
    ];
    for i in 0..2 {
        for (name, shape) in [
            ("norm1.weight", vec![128]),
            ("norm1.bias", vec![128]),
            ("attn.qkv.weight", vec![384, 128]),
            ("attn.qkv.bias", vec![384]),
            ("attn.proj.weight", vec![128, 128]),
            ("attn.proj.bias", vec![128]),
            ("norm2.weight", vec![128]),
            ("norm2.bias", vec![128]),
            ("mlp.fc1.weight", vec![256, 128]),
            ("mlp.fc1.bias", vec![256]),
            ("mlp.fc2.weight", vec![128, 256]),
            ("mlp.fc2.bias", vec![128]),
        ] {
            tensors.push((format!("blocks.{i}.{name}"), shape));
        }
    }
    tensors.retain(|(name, _)| !leave_out.iter().any(|part| name.contains(part)));
    tensors.extend(extra.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())));
    let bytes = vec![0u8; 1 << 20];
    let views = tensors.iter().map(|(name, shape)| {
        let count = 4 * shape.iter().product::<usize>();
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), &bytes[..count]).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read(extra: &[(&str, &[usize])], leave_out: &[&str]) -> ModelConfig {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("model.safetensors");
    write(&path, extra, leave_out);
    let description = load_description(&path, None).unwrap();
    let container = description.open().unwrap();
    let options = ResolveOptions::for_model(&description.config);
    let specs = specs_of(&description.config);
    resolve(&specs, &dialect(&description, &container), &container, &options).unwrap();
    Vit::new(description.config.clone()).unwrap();
    description.config
}

#[test]
fn the_shapes_determine_the_model() {
    let dino = read(&[], &[]);
    assert_eq!((dino.heads, dino.depth, dino.classes, dino.image_size), (2, 2, 0, Size::square(56)));
    let deit = read(
        &[
            ("dist_token", &[1, 1, 128]),
            ("head.weight", &[9, 128]),
            ("head.bias", &[9]),
            ("head_dist.weight", &[9, 128]),
            ("head_dist.bias", &[9]),
            ("pos_embed", &[1, 18, 128]),
        ],
        &["pos_embed"],
    );
    assert!(deit.distillation_head && deit.classes == 9 && deit.image_size == Size::square(56));
    let fine_tuned: [(&str, &[usize]); 4] =
        [("fc_norm.weight", &[128]), ("fc_norm.bias", &[128]), ("head.weight", &[9, 128]), ("head.bias", &[9])];
    let mae = read(&fine_tuned, &["norm.weight", "norm.bias"]);
    assert_eq!((mae.pooling, mae.pooled_norm, mae.final_norm), (Pooling::Mean, true, false));
    let extra: [(&str, &[usize]); 14] = [
        ("register_tokens", &[1, 4, 128]),
        ("mask_token", &[1, 128]),
        ("blocks.0.ls1.gamma", &[128]),
        ("blocks.0.ls2.gamma", &[128]),
        ("blocks.1.ls1.gamma", &[128]),
        ("blocks.1.ls2.gamma", &[128]),
        ("blocks.0.mlp.w12.weight", &[512, 128]),
        ("blocks.0.mlp.w12.bias", &[512]),
        ("blocks.1.mlp.w12.weight", &[512, 128]),
        ("blocks.1.mlp.w12.bias", &[512]),
        ("blocks.0.mlp.w3.weight", &[128, 256]),
        ("blocks.0.mlp.w3.bias", &[128]),
        ("blocks.1.mlp.w3.weight", &[128, 256]),
        ("blocks.1.mlp.w3.bias", &[128]),
    ];
    let dinov2 = read(&extra, &["mlp.fc"]);
    assert_eq!((dinov2.mlp, dinov2.mlp_width, dinov2.registers), (MlpKind::Gated, 256, 4));
    assert_eq!(dinov2.positions, Positions::LearnedWithoutRegisters);
}

#[test]
fn what_shapes_do_not_show_is_requested() {
    let models = goldens().join("models");
    for (file, part) in [
        ("openai_clip/model.pth", "quick GELU"),
        ("original_deit/model.pth", "not a multiple of 64"),
        ("torchvision_plain/model.pth", "does not say what model it is"),
    ] {
        let error = load_description(&models.join(file), None).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("--config"), "{file}: {error}");
    }
}
