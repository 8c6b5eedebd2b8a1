"""Released weights in; graphs, engines and a model repository out."""
