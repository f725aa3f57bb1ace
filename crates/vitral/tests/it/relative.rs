//! Relative positions, in addition to the goldens.

use vitral::config::{ModelConfig, RelativePositions, RelativeResample, Size};
use vitral::model::Vit;

fn small(relative_positions: RelativePositions) -> ModelConfig {
    ModelConfig {
        image_size: Size { height: 24, width: 40 },
        patch_size: Size::square(8),
        classes: 3,
        width: 12,
        depth: 2,
        heads: 3,
        head_width: 4,
        mlp_width: 16,
        relative_positions,
        relative_resample: RelativeResample::Geometric,
        ..ModelConfig::default()
    }
}

#[test]
fn tables_have_an_entry_for_each_offset_and_three_for_the_class_token() {
    let tables = |kind| {
        let vit = Vit::new(small(kind)).expect("a model");
        let specs = vit.declarations().specs();
        let tables = specs.iter().filter(|spec| spec.name.ends_with("relative_positions"));
        tables.map(|spec| (spec.name.clone(), spec.shape.clone())).collect::<Vec<_>>()
    };
    let named = |name: &str| (name.to_owned(), vec![5 * 9 + 3, 3]);
    let [shared, first, second] =
        ["relative_positions", "blocks.0.attention.relative_positions", "blocks.1.attention.relative_positions"]
            .map(named);
    assert_eq!(tables(RelativePositions::None), []);
    assert_eq!(tables(RelativePositions::Blocks), [first.clone(), second.clone()]);
    assert_eq!(tables(RelativePositions::Shared), std::slice::from_ref(&shared));
    assert_eq!(tables(RelativePositions::Both), [shared, first, second]);
}

#[test]
fn contradictions_are_reported() {
    let broken = |change: fn(&mut ModelConfig)| {
        let mut config = small(RelativePositions::Blocks);
        change(&mut config);
        Vit::new(config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(broken(|config| config.registers = 2).contains("relative positions and 3 prefix tokens"));
    assert!(broken(|config| config.drop.patches = 0.5).contains("set `drop.patches` to 0"));
    let without_class = |config: &mut ModelConfig| {
        config.class_token = false;
        config.pooling = vitral::config::Pooling::Mean;
    };
    assert!(broken(without_class).contains("require a class token"));
}
