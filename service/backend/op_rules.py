"""TensorFlow's operations that reach beyond the graph: none of these may be in one, those only on own files.

`graph_ops` reads the tables; a test goes through all operations of TensorFlow for one that is missing here.
"""

from collections.abc import Mapping

_FORBIDDEN = {
    "reads files": """
        CSVDataset CSVDatasetV2 DTensorRestoreV2 ExperimentalCSVDataset ExperimentalLMDBDataset
        ExperimentalMatchingFilesDataset ExperimentalSqlDataset FixedLengthRecordDataset
        FixedLengthRecordDatasetV2 FixedLengthRecordReader FixedLengthRecordReaderV2 GenerateVocabRemapping
        InitializeTRTResource LMDBDataset LMDBReader ListSnapshotChunksDataset LoadAndRemapMatrix LoadDataset
        MatchingFiles MatchingFilesDataset RecordInput Restore RestoreSlice SSTableReader SSTableReaderV2
        Skipgram SnapshotChunkDataset SnapshotDatasetReader SnapshotNestedDatasetReader SqlDataset
        TFRecordDataset TFRecordDatasetV2 TFRecordReader TFRecordReaderV2 TextLineDataset TextLineReader
        TextLineReaderV2 WholeFileReader WholeFileReaderV2""",
    "writes files": """
        CacheDataset CacheDatasetV2 CalibrationStatisticsSaver CreateSummaryDbWriter CreateSummaryFileWriter
        DatasetToTFRecord DistributedSave DumpTensor ExperimentalDatasetToTFRecord Save SaveDataset
        SaveDatasetV2 SaveSlices SerializeTRTResource SnapshotDataset SnapshotDatasetV2 WriteFile""",
    "opens connections": """
        DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 DebugIdentity
        DebugIdentityV2 DebugIdentityV3 DebugNanCount DebugNumericSummary DebugNumericSummaryV2
        RegisterDataset RegisterDatasetV2 RemoteCall RpcCall RpcClient RpcServer RpcServerRegister
        RpcServerStart""",
    "runs code that is not in the graph": """
        DatasetFromGraph DeserializeIterator EagerPyFunc PyFunc PyFuncStateless RemoteFusedGraphExecute
        SymbolicGradient TRTEngineOp XlaCallModule XlaCustomCall XlaCustomCallV2 XlaHostCompute
        _XlaHostComputeMlir""",
    "ends or changes the process": "Abort FileSystemSetConfiguration",
}
FORBIDDEN: Mapping[str, str] = {name: why for why, names in _FORBIDDEN.items() for name in names.split()}
"""Operations that no graph may hold, and what each does."""
NAMED: Mapping[str, tuple[int, ...]] = {
    "InitializeTableFromTextFile": (1,),
    "InitializeTableFromTextFileV2": (1,),
    "MergeV2Checkpoints": (0, 1),
    "ReadFile": (0,),
    "RestoreV2": (0,),
    "SaveV2": (0,),
}
"""Operations on files of the version, and which of their inputs are the files' names."""
WORDED: Mapping[str, tuple[str, tuple[bytes, ...]]] = {
    "DecodeProtoV2": ("descriptor_source", (b"local://", b"bytes://")),
    "EncodeProto": ("descriptor_source", (b"local://", b"bytes://")),
    "FixedUnigramCandidateSampler": ("vocab_file", ()),
    "PrintV2": ("output_stream", (b"stderr", b"stdout", b"log(")),
}
"""Operations with an attribute that may name a file: it has to be empty, or to begin with one of these."""
STRING_WRITERS = (
    "AssignVariableOp",
    "AssignVariableXlaConcatND",
    "ResourceScatter",
    "ResourceStridedSliceAssign",
)
"""How the operations begin that write to variables, where these hold strings."""
