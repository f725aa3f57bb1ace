//! A one-line summary of the preprocessing steps.

use std::fmt;

use super::{Channels, Normalize, Preprocess, Rescale, Step, Target};

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Exact(size) => write!(f, "exactly {size}"),
            Target::ShortSide(length) => write!(f, "short {length}"),
            Target::ShortSideWithin { short, longest } => write!(f, "short {short} within {longest}"),
            Target::LongSide(length) => write!(f, "long {length}"),
            Target::Cover(size) => write!(f, "covering {size}"),
            Target::Fit(size) => write!(f, "fitting {size}"),
            Target::Patches { patch, most } => write!(f, "to at most {most} patches of {patch}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Resize { to, filter } => write!(f, "resize {to} {filter}"),
            Step::ResizeTensor { to, filter } => write!(f, "resize {to} {filter} by torchvision"),
            Step::ResizeNumbers { to, filter } => write!(f, "resize {to} {filter} without rounding"),
            Step::Interpolate { to, whole: true } => write!(f, "resize {to} bilinear by TensorFlow"),
            Step::Interpolate { to, whole: false } => write!(f, "resize {to} bilinear by TensorFlow without rounding"),
            Step::CenterCrop { size, fill, .. } if *fill == [0; 3] => write!(f, "center crop {size}"),
            Step::CenterCrop { size, fill: [r, g, b], .. } => write!(f, "center crop {size} on #{r:02x}{g:02x}{b:02x}"),
        }
    }
}

impl fmt::Display for Rescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rescale::Divide255 => f.write_str("/255"),
            Rescale::TypeRange => f.write_str("/largest value of the type"),
            Rescale::Multiply { factor, offset } | Rescale::Fused { factor, offset } => {
                if *factor == 1.0 / 255.0 {
                    f.write_str("/255")?;
                } else if *factor == 1.0 / 127.5 {
                    f.write_str("/127.5")?;
                } else {
                    write!(f, "×{factor}")?;
                }
                match *offset {
                    0.0 => Ok(()),
                    offset if offset < 0.0 => write!(f, " − {}", short(-offset)),
                    offset => write!(f, " + {}", short(offset)),
                }
            }
        }
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mean {} std {}", list(&self.mean), list(&self.std))
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.channels {
            Channels::Rgb => {}
            Channels::Gray => parts.push("gray".to_string()),
            Channels::Bands(1) => parts.push("1 band".to_string()),
            Channels::Bands(bands) => parts.push(format!("{bands} bands")),
        }
        parts.extend(self.steps.iter().map(ToString::to_string));
        parts.extend(self.rescale.iter().map(ToString::to_string));
        parts.extend(self.normalize.iter().map(ToString::to_string));
        f.write_str(&parts.join(" | "))
    }
}

/// `0.5` as `.5`.
fn short(number: f32) -> String {
    let text = number.to_string();
    text.strip_prefix("0.").map_or(text.clone(), |fraction| format!(".{fraction}"))
}

/// A single number if all are equal.
fn list(numbers: &[f32]) -> String {
    match numbers {
        [first, rest @ ..] if rest.iter().all(|number| number == first) => short(*first),
        _ => numbers.iter().copied().map(short).collect::<Vec<_>>().join(" "),
    }
}
