//! Colors that differ for everyone, also with a color vision deficiency (Okabe & Ito 2008), for all plots.

/// Red, green and blue.
pub type Rgb = (u8, u8, u8);

/// Black.
pub const BLACK: Rgb = (0, 0, 0);
/// Orange.
pub const ORANGE: Rgb = (230, 159, 0);
/// Sky blue.
pub const SKY: Rgb = (86, 180, 233);
/// Bluish green.
pub const GREEN: Rgb = (0, 158, 115);
/// Yellow: too pale for lines on white.
pub const YELLOW: Rgb = (240, 228, 66);
/// Blue.
pub const BLUE: Rgb = (0, 114, 178);
/// Vermilion.
pub const VERMILION: Rgb = (213, 94, 0);
/// Reddish purple.
pub const PURPLE: Rgb = (204, 121, 167);

/// Seven of them, in the order in which series take them: neighbors are far apart, and yellow is left out.
pub const SERIES: [Rgb; 7] = [BLUE, VERMILION, GREEN, PURPLE, BLACK, SKY, ORANGE];
