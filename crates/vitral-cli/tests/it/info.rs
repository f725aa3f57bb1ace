use serde_json::Value;

use super::*;

#[test]
fn describes_a_model() {
    let out = vitral(["info"]).ok();
    // How much memory packed weights take depends on the instruction set.
    let lines: Vec<&str> = out.lines().filter(|line| !line.starts_with("memory")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    model         digits
    from          assets/digits (vitral names, stored as float32)
    license       MIT
    image         28 pixels, 1 channel
    patches       49 of 4 pixels
    tokens        50: class, 49 patches
    positions     learned, for all tokens
    blocks        6 of width 64, pre-norm (LayerNorm, epsilon 1e-5)
    attention     4 heads of 64, no bias on query, key and value
    MLP           128 wide, ReLU
    pooling       class token
    head          linear, 10 classes
    parameters    499,722 (0.50 million)
                  embedding                4,352    0.9 %
                  attention              393,600   78.8 %
                  MLP                     99,456   19.9 %
                  norms                    1,664    0.3 %
                  head                       650    0.1 %
    cost          32.31 MMACs per image (64.61 MFLOP)
                  patch embedding         50,176    0.2 %
                  qkv                 14,745,600   45.6 %
                  attention            7,680,000   23.8 %
                  projection           4,915,200   15.2 %
                  MLP                  4,915,200   15.2 %
                  head                       640    0.0 %
    preprocessing gray | resize exactly 28 bilinear | /255 | mean .1307 std .3081
    labels        0, 1, 2, 3, 4, 5, 6, 7, 8, 9

    layers
      patches.weight                          64 × 16
      patches.bias                            64
      tokens.class                            64
      positions                               50 × 64
      blocks.{i}.norm1.weight                 64  6 times
      blocks.{i}.norm1.bias                   64  6 times
      blocks.{i}.attention.qkv.weight         768 × 64  6 times
      blocks.{i}.attention.projection.weight  64 × 256  6 times
      blocks.{i}.attention.projection.bias    64  6 times
      blocks.{i}.norm2.weight                 64  6 times
      blocks.{i}.norm2.bias                   64  6 times
      blocks.{i}.mlp.up.weight                128 × 64  6 times
      blocks.{i}.mlp.up.bias                  128  6 times
      blocks.{i}.mlp.down.weight              64 × 128  6 times
      blocks.{i}.mlp.down.bias                64  6 times
      pooled_norm.weight                      64
      pooled_norm.bias                        64
      head.weight                             10 × 64
      head.bias                               10
    ");
}

#[test]
fn named_sizes_have_their_published_counts() {
    for (name, parameters, gmacs) in [("B/16", 86_567_656, 17.58), ("vit_tiny_patch16_224", 5_717_416, 1.26)] {
        let report: Value = serde_json::from_str(&vitral(["info", "--arch", name, "--json"]).ok()).expect("JSON");
        assert_eq!(report["parameters"]["total"], parameters);
        let parts = ["embedding", "attention", "mlp", "norms", "head"];
        let sum: u64 = parts.iter().filter_map(|part| report["parameters"][part].as_u64()).sum();
        assert_eq!(sum, parameters as u64);
        let found = report["macs_total"].as_f64().expect("a number") / 1e9;
        assert!((found / gmacs - 1.0).abs() < 0.01, "{found}");
    }
    assert!(vitral(["info", "--arch", "resnet50"]).fails(2).contains("`vitral models` lists them"));
}

#[test]
fn describes_golden_models() {
    for name in ["hf_vit_bfloat16", "hf_siglip_vision", "timm_parallel_pairs"] {
        let model = golden(name).display().to_string();
        let report: Value = serde_json::from_str(&vitral(["info", "--model", &model, "--json"]).ok()).expect("JSON");
        assert!(report["origin"]["dialect"].is_string(), "{report}");
        assert!(vitral(["info", "--model", &model]).ok().contains("layers"));
    }
    let case = golden("timm_hybrid_stages");
    let [model, config] = ["model.safetensors", "vitral-config.json"].map(|name| case.join(name).display().to_string());
    assert!(vitral(["info", "--model", &model, "--config", &config]).ok().contains("after a ResNetV2 of stages"));
}

#[test]
fn lists_models() {
    let out = vitral(["models", "--quiet"]).ok();
    let lines: Vec<&str> = out.lines().filter(|line| line.contains("/16 ") || line.contains("name")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    name         width depth heads    MLP  parameters    GMACs  long name
    mu/16           32     1     2    128      0.08 M     0.01  vit_mu_patch16_224
    Ti/16          192    12     3    768      5.72 M     1.25  vit_tiny_patch16_224
    S/16           384    12     6   1536     22.05 M     4.60  vit_small_patch16_224
    M/16           512    12     8   2048     38.84 M     7.99  vit_medium_patch16_224
    B/16           768    12    12   3072     86.57 M    17.56  vit_base_patch16_224
    L/16          1024    24    16   4096    304.33 M    61.55  vit_large_patch16_224
    So400m/16     1152    27    16   4304    413.74 M    83.57  vit_so400m_patch16_224
    H/16          1280    32    16   5120    632.20 M   127.31  vit_huge_patch16_224
    g-opt/16      1536    40    16   6144   1136.29 M   228.10  vit_giantopt_patch16_224
    ");
    let published = vitral(["models", "--published", "--quiet"]).ok();
    assert!(published.contains("hf:google/vit-base-patch16-224 ") && published.contains("86.57 M"), "{published}");
    let rows: Value = serde_json::from_str(&vitral(["models", "--json"]).ok()).expect("JSON");
    assert!(rows.as_array().is_some_and(|rows| rows.iter().any(|row| row["name"] == "H/14")), "{rows}");
}
