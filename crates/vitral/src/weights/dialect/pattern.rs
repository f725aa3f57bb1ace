//! Names with placeholders.

/// A parameter name with placeholders, such as `blocks.{i}.norm1.{p}`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    parts: Vec<String>,
}

/// The values of the placeholders.
#[derive(Debug, Default)]
pub(crate) struct Captures<'a>(Vec<(&'a str, &'a str)>);

impl Pattern {
    /// Parses a pattern.
    pub(crate) fn new(text: &str) -> Self {
        Pattern { parts: text.split('.').map(str::to_owned).collect() }
    }

    /// The pattern's text.
    pub(crate) fn text(&self) -> String {
        self.parts.join(".")
    }

    /// The values of the placeholders in `name`, if it matches.
    pub(crate) fn captures<'a>(&'a self, name: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::default();
        let mut found = name.split('.');
        for part in &self.parts {
            let given = found.next()?;
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some("p") if given == "weight" || given == "bias" => captures.0.push(("p", given)),
                Some("p") => return None,
                Some(placeholder) => {
                    if given.is_empty() || !given.bytes().all(|byte| byte.is_ascii_digit()) {
                        return None;
                    }
                    captures.0.push((placeholder, given));
                }
                None if part == given => {}
                None => return None,
            }
        }
        found.next().is_none().then_some(captures)
    }
}

impl Captures<'_> {
    /// Fills the placeholders of another name.
    pub(crate) fn fill(&self, name: &str) -> String {
        let mut filled = name.to_owned();
        for &(placeholder, value) in &self.0 {
            filled = filled.replace(&format!("{{{placeholder}}}"), value);
            if placeholder == "p" {
                for (weight, bias) in [("kernel", "bias"), ("scale", "bias"), ("gamma", "beta")] {
                    let value = if value == "weight" { weight } else { bias };
                    filled = filled.replace(&format!("{{{weight}}}"), value);
                }
            } else if let Ok(number) = value.parse::<u64>() {
                let next = number.saturating_add(1);
                filled = filled.replace(&format!("{{{placeholder}+1}}"), &next.to_string());
                filled = filled.replace(&format!("{{{placeholder}+1:02}}"), &format!("{next:02}"));
            }
        }
        filled
    }
}

/// Whether a name is a template with its placeholders filled in.
pub(crate) fn matches_template(template: &str, name: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else { return template == name };
    let Some((placeholder, after)) = rest.split_once('}') else { return false };
    let Some(name) = name.strip_prefix(before) else { return false };
    let words: &[&str] = match placeholder {
        "p" => &["weight", "bias"],
        "kernel" => &["kernel", "bias"],
        "scale" => &["scale", "bias"],
        "gamma" => &["gamma", "beta"],
        _ => {
            let digits = name.bytes().take_while(u8::is_ascii_digit).count();
            return digits > 0 && matches_template(after, &name[digits..]);
        }
    };
    words.iter().any(|word| name.strip_prefix(word).is_some_and(|name| matches_template(after, name)))
}

/// Whether a name matches a pattern in which `*` is a wildcard.
pub(crate) fn matches_glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            after.is_empty()
                || (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches_glob(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_only() {
        let pattern = Pattern::new("blocks.{i}.norm1.{p}");
        assert_eq!(pattern.captures("blocks.12.norm1.bias").unwrap().fill("b{i}/{p}"), "b12/bias");
        let stage = Pattern::new("s.{s}.{b}.{p}");
        let found = stage.captures("s.0.2.weight").unwrap();
        assert_eq!(found.fill("block{s+1}/unit{b+1}/{kernel}/{scale}"), "block1/unit3/kernel/scale");
        assert_eq!(stage.captures("s.0.2.bias").unwrap().fill("{kernel}"), "bias");
        assert_eq!(stage.captures("s.0.9.bias").unwrap().fill("unit{b+1:02}/{gamma}"), "unit10/beta");
        assert_eq!(found.fill("unit{b+1:02}/{gamma}"), "unit03/gamma");
        for other in ["blocks.x.norm1.bias", "blocks.1.norm1", "blocks.1.norm1.bias.x", "blocks.1.norm1.gamma", ""] {
            assert!(pattern.captures(other).is_none(), "{other}");
        }
    }

    #[test]
    fn templates() {
        let template = "block{s+1}/unit{b+1}/gn1/{scale}";
        assert!(
            matches_template(template, "block2/unit11/gn1/scale")
                && matches_template(template, "block1/unit1/gn1/bias")
        );
        for other in ["block/unit1/gn1/scale", "block1/unit1/gn1/kernel", "block1/unit1/gn1/scales", ""] {
            assert!(!matches_template(template, other), "{other}");
        }
    }

    #[test]
    fn globs() {
        assert!(matches_glob("head.*", "head.weight") && matches_glob("*ids", "a.ids") && matches_glob("a", "a"));
        assert!(!matches_glob("head.*", "heads.weight") && !matches_glob("*ids", "a.idsx") && !matches_glob("", "a"));
    }
}
