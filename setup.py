"""What nemo_distill needs, and why in these versions; the rest of its installation is in pyproject.toml."""

from setuptools import setup

# nemo_toolkit[nlp] would bring torchvision, which goes with no CPU build of torch, and pangu 6, which NeMo cannot
# import. These are the packages of that extra which translation needs.
NEMO_TRANSLATION = ["megatron-core>=0.12,<0.17", "ijson", "rouge_score", "jieba", "opencc", "pangu<5"]

setup(
    install_requires=[
        # 2.5 removed MTEncDecModel; 2.3 cannot import it without Transformer Engine, which wants CUDA.
        "nemo_toolkit[common]>=2.4,<2.5",
        "torch>=2.6",  # untested below 2.13, of whose predecessors there are no builds for the CPU alone at hand
        "lightning>=2.2.2,<2.5",  # what NeMo takes, as of the next two
        "hydra-core>=1.3.1,<1.4",
        "omegaconf>=2.3,<2.4",
        "numpy>=1.26",
        "pydantic>=2.7,<3",
        "joblib>=1.2",  # as scikit-learn, which NeMo needs, has it
        "requests>=2.32.2,<3",
        "typing_extensions>=4.10",
        "sacrebleu>=2.3",  # its extras [ja] and [ko] are asked for where a language needs them
        "regex",  # sacrebleu's
        "langcodes[data]>=3.5",  # which codes mean which language, and each language's script
        "py3langid>=0.2.2,<1",  # the language of a text
        "sentencepiece>=0.2",
        "pyarrow",  # NeMo's, to read Parquet
        "rich>=13",
        "jinja2>=3.1.2",  # torch brings it along; Flask wants 3.1.2
        "tensorboard>=2.18",  # older ones do not go with NeMo's protobuf
        *NEMO_TRANSLATION,
    ],
    extras_require={
        "yttm": ["youtokentome>=1.0.6"],
        "plots": ["matplotlib>=3.7"],
        "demo": ["flask>=3", "waitress>=3"],
        "ctranslate2": ["ctranslate2>=4.6,<5"],
        "shortlist": ["eflomal>=2,<3"],  # a command under the GPL-3; pip compiles it
        "onnx": ["onnx>=1.16", "onnxruntime>=1.19"],
        "nlp": ["nemo_toolkit[nlp]>=2.4,<2.5"],
        # No extra for COMET: unbabel-comet wants protobuf<5 and torchmetrics<0.11, NeMo newer ones. evaluate.py has it
        # run by the Python of another environment.
        # What benchmarks/kd_loss.py compares with; torchtune 0.6 needs a module that torchao 0.15 no longer has.
        "bench": ["liger-kernel>=0.5,<1", "torchtune>=0.6,<0.7", "torchao>=0.12,<0.15"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=1,<2"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "import-linter>=2",
            "mypy>=1.13",
            "youtokentome>=1.0.6",
            "flask>=3",
            "waitress>=3",
            "ctranslate2>=4.6,<5",
            "eflomal>=2,<3",
            "onnxruntime>=1.19",
            "hydra-joblib-launcher>=1.2",
        ],
    },
)
