//! Two parties and the tokens between them: client, server, session, sampling, checkpoint.

pub mod checkpoint;
pub mod client;
pub mod sampling;
pub mod server;
pub mod session;
