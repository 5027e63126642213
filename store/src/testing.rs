//! For tests, measurements and fuzzing: no program needs it.

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "generate")]
pub mod generated;
#[cfg(test)]
mod hostile;
#[cfg(any(test, feature = "generate"))]
pub mod later;
#[cfg(test)]
mod layers;
#[cfg(feature = "stages")]
pub mod stages;
#[cfg(test)]
mod vectors;
