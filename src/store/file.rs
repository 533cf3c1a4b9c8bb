//! The token file on disk.
