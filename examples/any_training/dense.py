"""A Keras model, compiled by whoever makes it. Keras 3 runs on torch here."""

import keras


def build(shape, outputs, width=64, lr=0.01) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(outputs, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(lr), "sparse_categorical_crossentropy")
    return model
