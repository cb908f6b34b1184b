"""Data: checked data sets in memory, readers of tables and images, scaling fitted on training data.

Everything a reader returns is in the data's own units; ``Preprocessing`` scales and encodes.
"""

from pyro_ssbnn.data.dataset import Dataset, Task, split
from pyro_ssbnn.data.description import ColumnChoice, TableDescription
from pyro_ssbnn.data.embedded import diabetes, digits
from pyro_ssbnn.data.encoded import Encoded
from pyro_ssbnn.data.encoded_rows import EncodedRows
from pyro_ssbnn.data.image_folders import read_image_folder
from pyro_ssbnn.data.images import read_cifar, read_idx, read_idx_images
from pyro_ssbnn.data.preprocessing import Preprocessing
from pyro_ssbnn.data.readers import read_table, table_pieces
from pyro_ssbnn.data.scaling import PixelScaling, TargetScaling
from pyro_ssbnn.data.streams import TableStream
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.uci import read_uci, read_uci_split, uci_splits

__all__ = [
    "ColumnChoice",
    "Dataset",
    "Encoded",
    "EncodedRows",
    "PixelScaling",
    "Preprocessing",
    "Table",
    "TableDescription",
    "TableStream",
    "TargetScaling",
    "Task",
    "diabetes",
    "digits",
    "read_cifar",
    "read_idx",
    "read_idx_images",
    "read_image_folder",
    "read_table",
    "read_uci",
    "read_uci_split",
    "split",
    "table_pieces",
    "uci_splits",
]
