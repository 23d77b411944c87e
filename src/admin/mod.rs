//! The admin API: HTTP/JSON on the node's unix socket. Whoever may open the socket may do everything.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/volumes` | | list of volumes |
//! | `POST /v1/volumes` | `{"name","size"}` | 201, the volume |
//! | `GET /v1/volumes/{name}` | | the volume |
//! | `PATCH /v1/volumes/{name}` | `{"size"}` | the volume |
//! | `DELETE /v1/volumes/{name}` | | `{"deleted":name}` |
//! | `GET /v1/volumes/{name}/stats` | | statistics |
//!
//! An error is `{"error":{"kind","message"}}`.

pub(crate) mod api;
pub(crate) mod client;
pub(crate) mod server;
