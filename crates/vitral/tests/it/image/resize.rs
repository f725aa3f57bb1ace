//! Every filter, with sizes that shrink, grow and change aspect ratio, compared with Pillow.

use proptest::prelude::*;
use safetensors::SafeTensors;
use vitral::config::Size;
use vitral::image::preprocess::{Channels, Step, Target};
use vitral::image::resize::{Window, resize_window};
use vitral::image::{Backend, Filter, Limits, Preprocess, RgbImage, open, resize};

use super::{furthest, golden, golden_bytes};

#[test]
fn every_filter_matches_pillow() {
    let bytes = golden_bytes("resized.safetensors");
    for (name, expected) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut words = name.split(' ');
        let image = open(golden(words.next().unwrap()), &Limits::default()).unwrap();
        let mut side = || words.next().unwrap().parse().unwrap();
        let size = Size { height: side(), width: side() };
        let filter = Filter::from_name(words.next().unwrap()).unwrap();
        let found = furthest(resize(&image, size, filter).pixels(), expected.data());
        assert_eq!(found, 0, "`{name}`: {found} levels from Pillow");
    }
}

/// `tf.image.resize` adds in another order with some instruction sets, which shows in the last bits.
#[test]
fn interpolation_matches_tensorflow() {
    let bytes = golden_bytes("tensorflow_resized.safetensors");
    let mut unlike_pillow = 0.0f32;
    for (name, expected) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut words = name.split(' ');
        let image = open(golden(words.next().unwrap()), &Limits::default()).unwrap();
        let mut side = || words.next().unwrap().parse().unwrap();
        let size = Size { height: side(), width: side() };
        let resize = |whole| Preprocess {
            channels: Channels::Rgb,
            steps: vec![Step::Interpolate { to: Target::Exact(size), whole }],
            rescale: None,
            normalize: None,
        };
        let expected: Vec<f32> =
            expected.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let found = resize(false).apply(&image).unwrap();
        let whole = resize(true).apply(&image).unwrap();
        let pillow = resize(true).with_backend(Backend::Pil).unwrap().apply(&image).unwrap();
        for (place, &expected) in expected.iter().enumerate() {
            let at = place % 3 * size.area() + place / 3;
            assert!((found[at] - expected).abs() < 1e-4, "`{name}` at {place}: {} instead of {expected}", found[at]);
            assert!(
                whole[at] == expected.floor() || (found[at] - found[at].round()).abs() < 1e-4,
                "`{name}` at {place}"
            );
            unlike_pillow = unlike_pillow.max((pillow[at] - expected).abs());
        }
    }
    assert!(unlike_pillow > 20.0, "the goldens do not tell the two apart: {unlike_pillow}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_window_is_a_part_of_the_whole(
        (width, height, to_width, to_height) in (1usize..60, 1usize..60, 1usize..60, 1usize..60),
        filter in proptest::sample::select(Filter::ALL.to_vec()),
        cut in (0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64),
        seed in any::<u32>(),
    ) {
        let bytes = (0..width * height * 3).map(|at| (at as u32).wrapping_mul(seed | 1).rotate_left(9) as u8).collect();
        let image = RgbImage::new(width, height, bytes).unwrap();
        let to = Size { height: to_height, width: to_width };
        let (top, left) = ((cut.0 * to_height as f64) as usize, (cut.1 * to_width as f64) as usize);
        let rows = 1 + (cut.2 * (to_height - top - 1) as f64) as usize;
        let columns = 1 + (cut.3 * (to_width - left - 1) as f64) as usize;
        let window = Window { top, left, size: Size { height: rows, width: columns } };
        let whole = resize(&image, to, filter);
        let part = resize_window(&image, to, filter, window);
        for row in 0..rows {
            for column in 0..columns {
                prop_assert_eq!(part.pixel(row, column), whole.pixel(top + row, left + column));
            }
        }
    }
}
