//! Large images in windows.

use std::ops::ControlFlow;

use vitral::config::Size;
use vitral::explain::{InputImage, Method, Options, Target};
use vitral::features::FeatureKind;
use vitral::image::resize::Window;
use vitral::image::{AsImage, RgbImage};
use vitral::tiles::{TileOptions, Tiling};
use vitral::{Device, Error, LoadOptions, Model};

fn model() -> Model {
    Model::embedded_with(&LoadOptions::default(), &Device::cpu(0)).expect("the built-in model")
}

/// An image in which no two parts are the same.
fn scene(height: usize, width: usize) -> RgbImage {
    let byte = |at: usize| (vitral_engine::random::mix(at as u64 / 40) >> 40) as u8;
    RgbImage::new(width, height, (0..3 * height * width).map(byte).collect()).expect("an image")
}

fn joined(model: &Model, image: &RgbImage, options: TileOptions, batch: usize) -> (Tiling, Vec<f32>) {
    let tiling = model.tiling(image.size(), options).expect("windows");
    let mut all = Vec::new();
    let mut windows = 0;
    let progress = |done: usize| {
        windows += done;
        Ok(())
    };
    let each = |row: usize, values: &[f32]| {
        assert_eq!(row * tiling.grid().width * model.vit().config().width, all.len());
        all.extend_from_slice(values);
        Ok::<(), Error>(())
    };
    model.tile_tokens(image, &tiling, batch, progress, each).expect("tokens");
    assert_eq!(windows, tiling.count());
    (tiling, all)
}

/// Patch tokens of an image that the model sees as a whole.
fn whole(model: &Model, image: &impl AsImage) -> Vec<f32> {
    let pixels = model.pixels(&[image]).expect("pixels");
    let tokens = model.features(&pixels, FeatureKind::Tokens).expect("tokens").to_vec().expect("values");
    tokens[model.vit().config().prefix_tokens() * model.vit().config().width..].to_vec()
}

#[test]
fn an_image_that_the_model_sees_as_a_whole_is_the_same_in_windows() {
    let model = model();
    let side = model.vit().config().image_size;
    let image = scene(side.height, side.width);
    let (tiling, found) = joined(&model, &image, TileOptions::default(), 3);
    assert_eq!(tiling.count(), 1);
    let expected = whole(&model, &image);
    assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()) && found.len() == expected.len());

    let input = InputImage::new(&model, "whole", &image).expect("an input");
    let (target, options) = (Target::Class(3), Options::default());
    let go_on = &mut |_: usize| ControlFlow::Continue(());
    let map = model.explain(&input, Method::Attention, None, &options, go_on).expect("a map");
    let tiled = model.explain_tiled(&image, &tiling, Method::Attention, None, &options, go_on).expect("a map");
    assert_eq!(map, tiled);
    let scores = model.window_scores::<Error>(&image, &tiling, 4, |_| Ok(())).expect("scores");
    let ranked = model.classify(&[&image], 4).expect("classes").remove(0);
    assert_eq!(scores.ranked(4, model.labels()), ranked);
    let map = model.explain(&input, Method::GradCam, Some(&target), &options, go_on).expect("a map");
    let aim = Some((&target, &[0.5][..]));
    let tiled = model.explain_tiled(&image, &tiling, Method::GradCam, aim, &options, go_on).expect("a map");
    assert_eq!(map.values.iter().map(|value| value * 0.5).collect::<Vec<_>>(), tiled.values);
}

#[test]
fn without_overlap_each_window_keeps_its_bits() {
    let model = model();
    let side = model.vit().config().image_size;
    let image = scene(2 * side.height, 3 * side.width);
    let options = TileOptions { overlap: 0.0, ..TileOptions::default() };
    let (tiling, found) = joined(&model, &image, options, 4);
    assert_eq!(tiling.count(), 6);
    let (width, patches, grid) = (model.vit().config().width, tiling.patches(), tiling.grid());
    for tile in tiling.tiles() {
        let place = tiling.pixels(tile);
        assert_eq!(place, Window { top: place.top, left: place.left, size: side });
        let expected = whole(&model, &image.view().part(place));
        for row in 0..patches.height {
            let start = ((tile.row + row) * grid.width + tile.column) * width;
            let own = &expected[row * patches.width * width..][..patches.width * width];
            assert_eq!(&found[start..start + own.len()], own, "{tile:?} {row}");
        }
    }
    let (_, again) = joined(&model, &image, options, 1);
    assert_eq!(found, again, "whatever the batch");
}

#[test]
fn windows_overlap_to_the_edges_and_may_be_of_another_scale() {
    let model = model();
    let image = scene(75, 101);
    let (tiling, found) = joined(&model, &image, TileOptions::default(), 5);
    assert_eq!(tiling.grid(), Size { height: 75usize.div_ceil(4), width: 101usize.div_ceil(4) });
    assert!(found.iter().all(|value| value.is_finite()));
    let options = TileOptions { side: Some(64), ..TileOptions::default() };
    let (tiling, _) = joined(&model, &image, options, 5);
    assert_eq!((tiling.cell(), tiling.window()), (Size::square(8), Size::square(64)));
    // One window of another scale is what preprocessing makes of it.
    let image = scene(64, 64);
    let (_, found) = joined(&model, &image, options, 5);
    assert_eq!(found, whole(&model, &image));
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let model = model();
    let refused = |options| model.tiling(Size::square(100), options).expect_err("refused").to_string();
    let said = refused(TileOptions { side: Some(50), ..TileOptions::default() });
    assert!(said.contains("multiple of 8") && said.contains("48 or 56"), "{said}");
    let said = refused(TileOptions { side: Some(3), ..TileOptions::default() });
    assert!(said.ends_with("take 8"), "{said}");
    for overlap in [-0.1, 0.99, f32::NAN] {
        let said = refused(TileOptions { overlap, ..TileOptions::default() });
        assert!(said.contains("from 0 to 0.95"), "{said}");
    }
}
