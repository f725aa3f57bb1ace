//! Hue shifts, through Pillow's 8-bit HSV.

use vitral::image::RgbImage;

/// Shifts every hue by a fraction of the circle, from −0.5 to 0.5, as in torchvision's `adjust_hue`.
pub(super) fn turn(image: RgbImage, share: f64) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let step = (share * 255.0) as i32 as u8;
    let mut pixels = image.into_pixels();
    for pixel in pixels.chunks_exact_mut(3) {
        let [hue, saturation, value] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&to_rgb([hue.wrapping_add(step), saturation, value]));
    }
    RgbImage::new(width, height, pixels).expect("as many pixels as before")
}

fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|level| f32::from(most - level) / range);
    let hue = match most {
        _ if r == most => bc - gc,
        _ if g == most => (2.0 + f64::from(rc) - f64::from(bc)) as f32,
        _ => (4.0 + f64::from(gc) - f64::from(rc)) as f32,
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

fn to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixth = f64::from(hue) * 6.0 / 255.0;
    let part = (sixth - sixth.floor()) as f32;
    let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
    let level = |share: f64| (f64::from(value) * (1.0 - share)).round() as u8;
    let (p, q) = (level(saturation), level(saturation * f64::from(part)));
    let t = level(saturation * (1.0 - f64::from(part)));
    match sixth.floor() as u32 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
