//! Words, sentences, names and identifiers with about the entropy of the real ones.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator for `purpose`, its own for each `(key, number)`.
pub(crate) fn rng(key: u64, purpose: &str, number: u64) -> ChaCha8Rng {
    use sha1::{Digest, Sha1};
    let digest =
        Sha1::new().chain_update(key.to_le_bytes()).chain_update(number.to_le_bytes()).chain_update(purpose).finalize();
    let mut seed = [0; 32];
    seed[..20].copy_from_slice(&digest);
    ChaCha8Rng::from_seed(seed)
}

/// A word; common ones come more often.
pub(crate) fn word(rng: &mut impl Rng) -> &'static str {
    let at: f64 = rng.random();
    WORDS[(at * at * WORDS.len() as f64) as usize]
}

/// `count` words with a capital, some numbers, and an end.
pub(crate) fn sentence(rng: &mut impl Rng, count: usize) -> String {
    let mut text = String::new();
    for index in 0..count {
        if index > 0 {
            text.push_str(if rng.random_bool(0.07) { ", " } else { " " });
        }
        if rng.random_bool(0.02) {
            text.push_str(&rng.random_range(1..2000).to_string());
        } else if index == 0 {
            text.push_str(&capitalized(word(rng)));
        } else {
            text.push_str(word(rng));
        }
    }
    text.push_str(["", ".", "!", "?", " 😀", "…"][rng.random_range(0..6)]);
    text
}

/// An upper-case random UUID, as Foundation prints it.
pub(crate) fn uuid(rng: &mut impl Rng) -> String {
    let bits: u128 = rng.random();
    let hex = format!("{bits:032X}");
    format!("{}-{}-4{}-A{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// `count` random bytes.
pub(crate) fn bytes(rng: &mut impl Rng, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// `word` with its first letter upper-case.
pub(crate) fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Somebody the owner knows: number `index` is the same person in every database of one phone.
pub(crate) struct Person {
    pub first: &'static str,
    pub last: String,
    pub phone: String,
    pub email: String,
}

impl Person {
    pub(crate) fn nth(key: u64, index: u64) -> Person {
        let mut rng = rng(key, "person", index);
        let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
        let last = format!("{}{}", capitalized(word(&mut rng)), ["son", "er", "well", "mann"][rng.random_range(0..4)]);
        Person {
            first,
            phone: format!("+4917{}", rng.random_range(10_000_000..99_999_999)),
            email: format!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase()),
            last,
        }
    }

    /// One of the forty people the owner is in touch with, some far more than others.
    pub(crate) fn close(key: u64, rng: &mut impl Rng) -> (u64, Person) {
        let at: f64 = rng.random();
        let index = (at * at * 40.0) as u64;
        (index, Person::nth(key, index))
    }
}

pub(crate) const FIRST_NAMES: [&str; 24] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Klara", "Leo", "Mia", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tilda", "Umar", "Vera", "Willem", "Yara", "Zoe",
];

#[rustfmt::skip]
const WORDS: [&str; 320] = [
    "the", "to", "and", "a", "you", "it", "is", "in", "of", "for", "that", "we", "on", "have", "be", "at", "not", "with", "me", "so",
    "are", "was", "do", "this", "my", "but", "can", "will", "just", "if", "what", "up", "out", "all", "get", "like", "when", "there", "no", "now",
    "from", "your", "about", "they", "how", "one", "go", "or", "know", "see", "time", "today", "good", "then", "would", "home", "here", "she", "he", "had",
    "back", "tomorrow", "think", "come", "want", "day", "thanks", "really", "need", "some", "them", "been", "an", "as", "work", "well", "going", "still", "could", "more",
    "okay", "love", "sure", "maybe", "later", "who", "dinner", "tonight", "morning", "yes", "right", "him", "her", "over", "please", "call", "very", "too", "take", "last",
    "week", "make", "let", "did", "people", "great", "soon", "way", "said", "something", "after", "before", "look", "train", "school", "kids", "never", "always", "off", "again",
    "much", "only", "other", "should", "where", "why", "our", "their", "first", "next", "year", "house", "car", "phone", "photo", "sent", "book", "room", "bring", "wait",
    "few", "minutes", "late", "early", "night", "weekend", "friday", "sunday", "monday", "birthday", "party", "happy", "sorry", "funny", "nice", "long", "little", "big", "old", "new",
    "dog", "cat", "garden", "kitchen", "coffee", "bread", "milk", "water", "apple", "cake", "lunch", "breakfast", "shop", "market", "street", "station", "airport", "flight", "ticket", "doctor",
    "meeting", "office", "boss", "project", "email", "letter", "money", "bank", "paid", "price", "cheap", "half", "twice", "quick", "slow", "hard", "easy", "green", "blue", "red",
    "white", "black", "summer", "winter", "spring", "autumn", "rain", "snow", "sun", "warm", "cold", "weather", "river", "lake", "mountain", "forest", "beach", "island", "village", "city",
    "music", "song", "film", "game", "team", "match", "guitar", "piano", "story", "paper", "picture", "camera", "movie", "class", "teacher", "student", "exam", "lesson", "language", "answer",
    "question", "problem", "reason", "idea", "plan", "change", "start", "finish", "open", "close", "turn", "walk", "run", "drive", "ride", "swim", "sleep", "wake", "dream", "remember",
    "forget", "believe", "hope", "wish", "feel", "hear", "listen", "watch", "read", "write", "speak", "ask", "tell", "show", "help", "carry", "hold", "keep", "lose", "find",
    "mother", "father", "sister", "brother", "uncle", "aunt", "cousin", "grandma", "grandpa", "neighbour", "friend", "family", "baby", "wedding", "holiday", "christmas", "present", "surprise", "promise", "secret",
    "bicycle", "umbrella", "jacket", "window", "balcony", "elevator", "battery", "password", "charger", "headphones", "suitcase", "passport", "insurance", "dentist", "appointment", "medicine", "temperature", "electrician", "washing", "vacuum",
];
