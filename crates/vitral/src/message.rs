//! What a user reads: errors on one line, without what says nothing to them, and numbers of things.

use std::error::Error;

/// A number of things, with their noun: `1 image`, `2 classes`.
pub fn count(number: usize, noun: &str) -> String {
    match noun {
        _ if number == 1 => format!("1 {noun}"),
        noun if noun.ends_with('s') => format!("{number} {noun}es"),
        noun => format!("{number} {noun}s"),
    }
}

/// An error and its causes on one line. A cause that the message already contains is not repeated.
pub fn line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    plain(&line)
}

/// A message without the numbers of the system's errors, which say nothing to a user: `(os error 2)`.
pub fn plain(message: &str) -> String {
    // Names of files may hold characters that move the cursor or change colors.
    let message: String =
        message.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let mut parts = message.split(" (os error ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix(')') {
            Some(rest) if rest.len() < part.len() => plain.push_str(rest),
            _ => plain.extend([" (os error ", part]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|number| count(number, "image")), ["0 images", "1 image", "2 images"]);
        assert_eq!([1, 2].map(|number| count(number, "class")), ["1 class", "2 classes"]);
    }

    #[test]
    fn numbers_of_system_errors_are_left_out() {
        let error = std::io::Error::from_raw_os_error(2).to_string();
        assert_eq!(plain(&format!("`a`: {error}: twice {error}")).matches("os error").count(), 0);
        assert_eq!(plain("an (os error of mine)"), "an (os error of mine)");
    }
}
