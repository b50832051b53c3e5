"""What Fashion-MNIST 3.0.1 is: its arrays, their proof, its classes (Xiao, Rasul and Vollgraf 2017)."""

from typing import Final

CLASS_NAMES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

#: Pixels of an image, row by row.
IMAGE_SHAPE: Final = (28, 28)

#: Arrays of the data set, uint8, in the order of the upstream archives.
SHAPES: Final = {
    "train_images": (60000, 28, 28),
    "train_labels": (60000,),
    "test_images": (10000, 28, 28),
    "test_labels": (10000,),
}

#: sha256 of each array's bytes in C order, computed from the upstream archives.
SHA256: Final = {
    "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}

#: Images of `train_images` that the published split keeps for validation: the last ones.
PUBLISHED_VALIDATION_COUNT: Final = 10000

#: Ones in the published binarisation of the test images (Norouzi, Fleet and Norouzi 2020, their code).
PUBLISHED_TEST_ONES: Final = 2248637
