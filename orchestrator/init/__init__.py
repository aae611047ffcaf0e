"""From a folder of images to a recipe: look, say what is wrong, choose, write."""
