//! Two parties and the tokens between them.
//!
//! [`client::Client`] holds the secret key, [`server::Server`] the weights and a client's evaluation keys,
//! [`chat::Chat`] is one text of the client's, and [`protocol`] is all that goes between them. [`checkpoint`] keeps a
//! text on disk.

pub mod chat;
pub mod checkpoint;
pub mod client;
pub mod protocol;
pub mod sampling;
pub mod server;
mod text_stream;
