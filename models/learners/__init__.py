"""Anyone's training: estimators, training functions, Lightning, Hugging Face and Keras, called replica by replica."""
