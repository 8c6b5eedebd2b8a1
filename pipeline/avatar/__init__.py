"""Live Avatar: sound and a picture in, the timestep-forcing pipeline, frames out."""
