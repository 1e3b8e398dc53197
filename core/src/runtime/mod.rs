//! The engine that joins the layers, and the face shown to an embedding language.
