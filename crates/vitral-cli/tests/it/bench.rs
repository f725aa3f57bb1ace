use serde_json::Value;

use super::*;

#[test]
fn a_measurement_has_all_values() {
    let args = ["bench", "--arch", "test/8", "--image-size", "64", "--batch", "2", "--threads", "1", "--runs", "3"];
    let out = vitral(args.into_iter().chain(["--json"])).ok();
    let measured: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&measured["arch"], &measured["batch"], &measured["runs"]), (&"test/8".into(), &2.into(), &3.into()));
    for name in ["median_ms", "min_ms", "images_per_second", "gflops", "fma_peak_gflops", "fraction_of_peak"] {
        assert!(measured[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {measured}");
    }
    assert!(measured["fraction_of_peak"].as_f64().is_some_and(|share| share < 1.0), "{measured}");
    if cfg!(target_os = "linux") {
        assert!(measured["peak_rss_mb"].as_f64().is_some_and(|memory| memory > 1.0), "{measured}");
    }
    assert!(vitral(args).ok().contains("images/s"));
    assert!(vitral(["bench", "--model", "assets/digits", "--runs", "1"]).ok().starts_with("digits, 28 pixels"));
    // Only the same work is compared; the time of another precision is what one wants to know.
    let place = tempfile::tempdir().expect("a folder");
    let earlier = place.path().join("earlier.json");
    std::fs::write(&earlier, &out).expect("written");
    let earlier = earlier.display().to_string();
    let again = |more: &[&str]| vitral([&args[..], more, &["--compare", &earlier]].concat());
    assert!(again(&["--precision", "bf16"]).ok().contains("as fast as"));
    let said = again(&["--patch-size", "16"]).fails(1);
    assert!(said.contains("test/8 on images of 64 at batch 2, not test/8 with patches of 16"), "{said}");
    let smaller =
        ["bench", "--arch", "test/8", "--image-size", "32", "--batch", "2", "--runs", "1", "--compare", &earlier];
    assert!(vitral(smaller).fails(1).contains("not test/8 on images of 32"));
    vitral(["bench", "--arch", "test/8", "--image-size", "0"]).fails(2);
    let said = vitral(["bench", "--model", "assets/digits", "--image-size", "30"]).fails(1);
    assert!(said.contains("takes images of 28 pixels"), "{said}");
}
