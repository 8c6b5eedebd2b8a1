"""`python -m train.latents`: see `train.latents.clips`."""

from train.latents.clips import main

if __name__ == "__main__":
    main()
