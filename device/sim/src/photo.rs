//! A photo or film: everything about it follows from its number.

use rand::RngExt;

use crate::content::{Content, Media};
use crate::databases::Asset;
use crate::file::Location;
use crate::text;

/// Domain of photos and their catalogue.
pub(crate) const CAMERA_ROLL: &str = "CameraRollDomain";

/// A photo or film the owner took.
pub(crate) struct Photo {
    pub number: u32,
    /// Extension and content of the file the catalogue names, then of a live photo's film.
    media: Vec<(&'static str, Content)>,
    thumbnail: Content,
}

impl Photo {
    /// Photo `number` of a phone with `phone_size` bytes on it.
    pub(crate) fn taken(key: u64, phone_size: u64, number: u32) -> Photo {
        let mut rng = text::rng(key, "photo", number.into());
        let scale = scale(phone_size);
        let mut media = |extension, format, sizes: std::ops::Range<f64>| {
            let size = (rng.random_range(sizes) * scale) as u64;
            (extension, Content::Media { format, key: rng.random(), size })
        };
        let still = ("HEIC", Media::Heic, 1e6..4e6);
        let media = match number % 20 {
            7 | 19 => vec![media("MOV", Media::QuickTime, 2e6..8e6)],
            3 | 11 => vec![media(still.0, still.1, still.2), media("MOV", Media::QuickTime, 1e6..2e6)],
            1 | 9 | 16 => vec![media("JPG", Media::Jpeg, 1e6..3e6)],
            _ => vec![media(still.0, still.1, still.2)],
        };
        let size = (rng.random_range(1e4..4e4) * scale.max(0.1)) as u64;
        Photo { number, media, thumbnail: Content::Media { format: Media::Jpeg, key: rng.random(), size } }
    }

    fn directory(&self) -> String {
        format!("DCIM/{}APPLE", 100 + self.number / 1000)
    }

    fn stem(&self) -> String {
        format!("IMG_{:04}", self.number % 10_000)
    }

    /// The name the catalogue has, of the photo or film itself.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}", self.stem(), self.media[0].0)
    }

    /// All that lies in the camera roll for it.
    pub(crate) fn files(&self) -> Vec<(Location, Content)> {
        let (directory, stem) = (self.directory(), self.stem());
        let media =
            self.media.iter().map(|(extension, content)| (format!("Media/{directory}/{stem}.{extension}"), content));
        let thumbnail = format!("Media/PhotoData/Thumbnails/V2/{directory}/{}/5005.JPG", self.file_name());
        media
            .chain([(thumbnail, &self.thumbnail)])
            .map(|(path, content)| (Location::new(CAMERA_ROLL, path), content.clone()))
            .collect()
    }

    pub(crate) fn asset(&self, at: i64) -> Asset {
        let size = match self.media[0].1 {
            Content::Media { size, .. } => size,
            _ => 0,
        };
        let is_film = self.media[0].0 == "MOV";
        Asset {
            directory: self.directory(),
            file_name: self.file_name(),
            is_film,
            is_live: self.media.len() == 2,
            size,
            at,
        }
    }
}

/// Media of phones below 200 MB is smaller, so that there are photos enough to take and delete.
pub(crate) fn scale(size: u64) -> f64 {
    (size as f64 / 2e8).clamp(0.05, 1.0)
}
