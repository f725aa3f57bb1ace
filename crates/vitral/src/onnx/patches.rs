//! Pixels to patch embeddings.

use super::attribute::ints;
use super::graph::{Graph, Value};
use super::resnet::Order;
use crate::config::{Size, Stem};

impl Graph<'_> {
    /// `[batch, channels, height, width]` to `[batch, patches, width]`, row by row.
    pub(super) fn patches(&mut self, pixels: &Value, grid: Size) -> Value {
        let config = self.config();
        let map = match &config.stem {
            Stem::Patches => pixels.clone(),
            Stem::Hybrid(stem) => self.resnet(stem, Order::After, pixels),
            Stem::ResNet(stem) => self.resnet(stem, Order::Before, pixels),
            Stem::ResNetD(stem) => self.resnet_d(stem, pixels),
            Stem::Convolutional(stem) => self.small_stem(stem, pixels),
        };
        let embedded = match (config.embeds_patches(), config.patch_norms) {
            (false, _) => self.cells(&map),
            // A norm of each patch's pixels, which a convolution cannot express.
            (true, true) => {
                let flat = self.flat_patches(&map, grid);
                let normed = self.norm("patches.norm_in", &flat);
                self.linear("patches", &normed)
            }
            (true, false) => {
                let embedded = self.patch_convolution(&map, grid);
                self.cells(&embedded)
            }
        };
        self.norm_if(config.patch_norms || config.patch_output_norm, "patches.norm_out", &embedded)
    }

    /// How many rows and columns of zeros bring a map to whole patches; pixels beyond the grid are dropped.
    fn missing(&self, map: &Value, grid: Size) -> [usize; 2] {
        let (shape, patch) = (self.shape(map), self.config().patch_size);
        let missing = |wanted: usize, found: usize| wanted.saturating_sub(found);
        [missing(grid.height * patch.height, shape.at(2)), missing(grid.width * patch.width, shape.at(3))]
    }

    /// The patch embedding as a convolution whose stride is its kernel.
    fn patch_convolution(&mut self, map: &Value, grid: Size) -> Value {
        let config = self.config();
        let (patch, width, channels) = (config.patch_size, config.width, self.shape(map).at(1));
        let [bottom, right] = self.missing(map, grid);
        self.spec("patches.weight");
        let weight = self.stored("patches.weight", &[width, channels, patch.height, patch.width], |weights| {
            Ok(weights.values("patches.weight")?.into_owned())
        });
        let bias = config.patch_bias.then(|| self.vector("patches.bias", &[width]));
        let inputs: Vec<&Value> = [map, &weight].into_iter().chain(&bias).collect();
        let sides = [patch.height as i64, patch.width as i64];
        let pads = [0, 0, bottom as i64, right as i64];
        let attributes = vec![ints("kernel_shape", sides), ints("strides", sides), ints("pads", pads)];
        self.node("Conv", "patches", &inputs, attributes)
    }

    /// The pixels of each patch: channel by channel, row by row.
    fn flat_patches(&mut self, map: &Value, grid: Size) -> Value {
        let (patch, channels) = (self.config().patch_size, self.shape(map).at(1));
        let mut map = map.clone();
        let [bottom, right] = self.missing(&map, grid);
        if bottom + right > 0 {
            let pads = self.integers(&[0, 0, 0, 0, 0, 0, bottom as i64, right as i64]);
            map = self.node("Pad", "patches.padded", &[&map, &pads], vec![]);
        }
        let (height, width) = (grid.height * patch.height, grid.width * patch.width);
        if self.shape(&map).at(2) > height || self.shape(&map).at(3) > width {
            let [zeros, ends, axes] =
                [[0, 0], [height as i64, width as i64], [2, 3]].map(|values| self.integers(&values));
            map = self.node("Slice", "patches.whole", &[&map, &zeros, &ends, &axes], vec![]);
        }
        let cut = [0, channels, grid.height, patch.height, grid.width, patch.width];
        let cut = self.reshape("patches.cut", &map, &cut);
        let cut = self.transpose("patches.sorted", &cut, &[0, 2, 4, 1, 3, 5]);
        self.reshape("patches.flat", &cut, &[0, grid.area(), channels * patch.area()])
    }

    /// The cells of a feature map as tokens: `[batch, channels, height, width]` to `[batch, height · width, channels]`.
    fn cells(&mut self, map: &Value) -> Value {
        let shape = self.shape(map);
        let (channels, area) = (shape.at(1), shape.at(2) * shape.at(3));
        let flat = self.reshape("patches.cells", map, &[0, channels, area]);
        self.transpose("patches.tokens", &flat, &[0, 2, 1])
    }
}
