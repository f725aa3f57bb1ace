//! `train`, from a recipe to a model that `classify` takes.

use super::{folder, root, vitral};

const RECIPE: &str = r#"
[model]
variant = "test/4"
set = { image_size = 28, channels = 1 }
[data]
train = "pictures"
held_out = { fraction = 0.5 }
mean = [0.5]
std = [0.5]
[optimiser]
kind = "adamw"
[schedule]
rate = 1e-3
[run]
epochs = 2
batch = 2
"#;

#[test]
fn a_recipe_becomes_a_model() {
    let place = folder();
    let path = |name: &str| place.path().join(name).display().to_string();
    for class in ["one", "seven"] {
        let class_folder = place.path().join("pictures").join(class);
        std::fs::create_dir_all(&class_folder).expect("made");
        for copy in 0..4 {
            let source = root().join(format!("assets/digits/images/{class}.png"));
            std::fs::copy(source, class_folder.join(format!("{copy}.png"))).expect("copied");
        }
    }
    std::fs::write(place.path().join("recipe.toml"), RECIPE).expect("written");
    let said = vitral(["train", &path("recipe.toml"), "--out", &path("run")]).ok();
    assert!(said.contains("epoch   2/2") && said.contains("best"), "{said}");
    // A finished run has nothing left to do, and says the same.
    let again = vitral(["train", &path("recipe.toml"), "--out", &path("run")]).ok();
    assert!(again.contains("best"), "{again}");
    let answer = vitral(["classify", "--model", &path("run/best"), "assets/digits/images/one.png"]).ok();
    assert!(answer.contains("one") && answer.contains("seven"), "{answer}");
    let typo = vitral(["train", &path("recipe.toml"), "--out", &path("other"), "--set", "run.epoch=3"]).fails(1);
    assert!(typo.contains("epoch"), "{typo}");
}
