//! Files that are described by their tensors alone.

use vitral::config::{MlpKind, ModelConfig, Pooling, Positions, Size};
use vitral::model::Vit;
use vitral::weights::{ResolveOptions, load_description, resolve};

use super::{dialect, goldens, specs_of};

/// Writes tensors of a model of width 192 under the original names, all zero.
fn write(path: &std::path::Path, extra: &[(&str, &[usize])], leave_out: &[&str]) {
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("cls_token".into(), vec![1, 1, 192]),
        ("pos_embed".into(), vec![1, 17, 192]),
        ("patch_embed.proj.weight".into(), vec![192, 3, 14, 14]),
        ("patch_embed.proj.bias".into(), vec![192]),
        ("norm.weight".into(), vec![192]),
        ("norm.bias".into(), vec![192]),
    ];
    for i in 0..2 {
        for (name, shape) in [
            ("norm1.weight", vec![192]),
            ("norm1.bias", vec![192]),
            ("attn.qkv.weight", vec![576, 192]),
            ("attn.qkv.bias", vec![576]),
            ("attn.proj.weight", vec![192, 192]),
            ("attn.proj.bias", vec![192]),
            ("norm2.weight", vec![192]),
            ("norm2.bias", vec![192]),
            ("mlp.fc1.weight", vec![256, 192]),
            ("mlp.fc1.bias", vec![256]),
            ("mlp.fc2.weight", vec![192, 256]),
            ("mlp.fc2.bias", vec![192]),
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
    assert_eq!((dino.heads, dino.depth, dino.classes, dino.image_size), (3, 2, 0, Size::square(56)));
    let deit = read(
        &[
            ("dist_token", &[1, 1, 192]),
            ("head.weight", &[9, 192]),
            ("head.bias", &[9]),
            ("head_dist.weight", &[9, 192]),
            ("head_dist.bias", &[9]),
            ("pos_embed", &[1, 18, 192]),
        ],
        &["pos_embed"],
    );
    assert!(deit.distillation_head && deit.classes == 9 && deit.image_size == Size::square(56));
    let fine_tuned: [(&str, &[usize]); 4] =
        [("fc_norm.weight", &[192]), ("fc_norm.bias", &[192]), ("head.weight", &[9, 192]), ("head.bias", &[9])];
    let mae = read(&fine_tuned, &["norm.weight", "norm.bias"]);
    assert_eq!((mae.pooling, mae.pooled_norm, mae.final_norm), (Pooling::Mean, true, false));
    let extra: [(&str, &[usize]); 14] = [
        ("register_tokens", &[1, 4, 192]),
        ("mask_token", &[1, 192]),
        ("blocks.0.ls1.gamma", &[192]),
        ("blocks.0.ls2.gamma", &[192]),
        ("blocks.1.ls1.gamma", &[192]),
        ("blocks.1.ls2.gamma", &[192]),
        ("blocks.0.mlp.w12.weight", &[512, 192]),
        ("blocks.0.mlp.w12.bias", &[512]),
        ("blocks.1.mlp.w12.weight", &[512, 192]),
        ("blocks.1.mlp.w12.bias", &[512]),
        ("blocks.0.mlp.w3.weight", &[192, 256]),
        ("blocks.0.mlp.w3.bias", &[192]),
        ("blocks.1.mlp.w3.weight", &[192, 256]),
        ("blocks.1.mlp.w3.bias", &[192]),
    ];
    let dinov2 = read(&extra, &["mlp.fc"]);
    assert_eq!((dinov2.mlp, dinov2.mlp_width, dinov2.registers), (MlpKind::Gated, 256, 4));
    assert_eq!(dinov2.positions, Positions::LearnedWithoutRegisters);
}

/// Shapes are the same for any number of heads, so a wrong one would go unnoticed.
#[test]
fn heads_are_known_by_the_width() {
    for (width, heads) in [(384, 6), (768, 12), (1024, 16), (1280, 16), (1408, 16), (1536, 24), (1664, 16)] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.safetensors");
        let shapes: [(&str, Vec<usize>); 5] = [
            ("cls_token", vec![1, 1, width]),
            ("pos_embed", vec![1, 5, width]),
            ("patch_embed.proj.weight", vec![width, 1, 2, 2]),
            ("blocks.0.norm1.weight", vec![width]),
            ("blocks.0.attn.qkv.weight", vec![1, 1]),
        ];
        let bytes = vec![0u8; 1 << 20];
        let views = shapes.iter().map(|(name, shape)| {
            let count = 4 * shape.iter().product::<usize>();
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), &bytes[..count]);
            (*name, view.unwrap())
        });
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let config = load_description(&path, None).unwrap().config;
        assert_eq!((config.width, config.heads, config.head_width), (width, heads, width / heads));
    }
}

#[test]
fn what_shapes_do_not_show_is_requested() {
    let models = goldens().join("models");
    for (file, part) in [
        ("openai_clip/model.pth", "quick GELU"),
        ("original_deit/model.pth", "found 24, for which the number of heads is not known"),
        ("torchvision_plain/model.pth", "does not say what model it is"),
    ] {
        let error = load_description(&models.join(file), None).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("--config"), "{file}: {error}");
    }
}
