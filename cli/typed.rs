//! Text that people type: one name or password has several forms of bytes.

use unicode_normalization::UnicodeNormalization;

/// The forms in which a person may have typed the same text elsewhere: as it is, composed, decomposed, and with plain
/// spaces for those that do not break. Each is there once; most texts have one.
pub fn forms(text: &str) -> Vec<String> {
    let plain = |text: &str| text.replace(['\u{a0}', '\u{202f}'], " ");
    let mut forms: Vec<String> = Vec::new();
    for form in [text.to_owned(), text.nfc().collect(), text.nfd().collect(), plain(text)] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// A name without what keyboards and phones write in different ways: decomposed and in lower case, with the
/// typewriter's apostrophe, quotes and dash, plain single spaces, and no marks of direction.
pub fn fold(name: &str) -> String {
    let plain: String = plain_marks(name).nfkd().collect();
    let lower: String = plain_marks(&plain).to_lowercase().nfkd().collect();
    lower.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same text with marks that any keyboard has.
pub fn plain_marks(text: &str) -> String {
    let plain = |character| match character {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2bc}' | '\u{2b9}' | '\u{b4}' | '\u{60}' | '\u{2032}' => Some('\''),
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' => Some('"'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\u{a0}' | '\u{202f}' => Some(' '),
        '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}'
        | '\u{61c}' => None,
        other => Some(other),
    };
    text.chars().filter_map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_each_of_its_forms_once() {
        assert_eq!(forms("secret"), ["secret"]);
        assert_eq!(forms("s\u{e9}cret"), ["s\u{e9}cret", "se\u{301}cret"]);
        assert_eq!(forms("se\u{301}cret"), ["se\u{301}cret", "s\u{e9}cret"]);
        assert_eq!(forms("a\u{a0}b"), ["a\u{a0}b", "a b"]);
    }

    #[test]
    fn marks_of_phones_fold_to_those_of_keyboards() {
        assert_eq!(fold("L\u{2019}iPhone\u{a0}d\u{2019}\u{c9}loi"), fold("l'iphone d`e\u{301}loi"));
        assert_eq!(plain_marks("2026\u{2011}05\u{2013}03\u{202f}14:30"), "2026-05-03 14:30");
        assert_ne!(fold("Zoe"), fold("Zo\u{eb}"));
    }
}
