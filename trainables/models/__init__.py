"""Model families: a registry of their names, defaults and exact parameter counts; one file a family in the room `bundled`.

A new built-in family is a new file there: the registry imports every module of it, and `make docs` writes its page. `chains`, `slim`
and `fourier` are parts that families share; `activations` and `initialization` are what a point may change of them; `custom` registers
those of the user.

A family is a function that builds an ``nn.Module`` from the model's fields, the image shape and the number of classes, decorated with
`model_family`; its random initialization is part of the build (`model.initialization` replaces it), and gaplab seeds it.
A custom model joins from the user's file in the same way:

    from trainables.models import model_family

    @model_family("tiny_cnn", default_width=16)
    def tiny_cnn(model, dropout, image_shape, classes):
        channels = image_shape[0]
        return nn.Sequential(nn.Conv2d(channels, model.width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(model.width, classes))

named in the spec by ``imports: [my_models.py]`` and ``model: {name: tiny_cnn}``.
"""

from trainables.models.registry import (
    Builder,
    Family,
    build,
    check_outputs,
    families,
    family,
    model_family,
    multiply_adds,
    parameter_count,
    solved_family,
    solver_of,
    source_digest,
)

__all__ = [
    "Builder",
    "Family",
    "build",
    "check_outputs",
    "families",
    "family",
    "model_family",
    "multiply_adds",
    "parameter_count",
    "solved_family",
    "solver_of",
    "source_digest",
]
