package webm

// Element ids (RFC 8794 §11.2.3, RFC 9559 §5.1), with their length marker.
const (
	idEBML           = 0x1A45DFA3
	idEBMLReadVer    = 0x42F7
	idEBMLMaxID      = 0x42F2
	idEBMLMaxSize    = 0x42F3
	idEBMLVersion    = 0x4286
	idDocType        = 0x4282
	idDocTypeVersion = 0x4287
	idDocTypeReadVer = 0x4285
	idCRC32          = 0xBF
	idVoid           = 0xEC

	idSegment     = 0x18538067
	idSeekHead    = 0x114D9B74
	idInfo        = 0x1549A966
	idTracks      = 0x1654AE6B
	idCluster     = 0x1F43B675
	idCues        = 0x1C53BB6B
	idAttachments = 0x1941A469
	idChapters    = 0x1043A770
	idTags        = 0x1254C367

	idTimestampScale = 0x2AD7B1
	idMuxingApp      = 0x4D80
	idWritingApp     = 0x5741

	idTrackEntry      = 0xAE
	idTrackNumber     = 0xD7
	idTrackUID        = 0x73C5
	idTrackType       = 0x83
	idFlagLacing      = 0x9C
	idDefaultDuration = 0x23E383
	idCodecID         = 0x86
	idCodecPrivate    = 0x63A2
	idVideo           = 0xE0
	idAudio           = 0xE1

	idPixelWidth      = 0xB0
	idPixelHeight     = 0xBA
	idPixelCropBottom = 0x54AA
	idPixelCropTop    = 0x54BB
	idPixelCropLeft   = 0x54CC
	idPixelCropRight  = 0x54DD
	idDisplayWidth    = 0x54B0
	idDisplayHeight   = 0x54BA
	idDisplayUnit     = 0x54B2

	idSamplingFrequency = 0xB5
	idChannels          = 0x9F

	idContentEncodings     = 0x6D80
	idContentEncoding      = 0x6240
	idContentEncodingOrder = 0x5031
	idContentEncodingScope = 0x5032
	idContentEncodingType  = 0x5033
	idContentCompression   = 0x5034
	idContentCompAlgo      = 0x4254
	idContentCompSettings  = 0x4255

	idTimestamp       = 0xE7
	idSilentTracks    = 0x5854
	idPosition        = 0xA7
	idPrevSize        = 0xAB
	idSimpleBlock     = 0xA3
	idBlockGroup      = 0xA0
	idEncryptedBlock  = 0xAF
	idBlock           = 0xA1
	idBlockVirtual    = 0xA2
	idBlockAdditions  = 0x75A1
	idBlockDuration   = 0x9B
	idReferencePrio   = 0xFA
	idReferenceBlock  = 0xFB
	idReferenceVirt   = 0xFD
	idCodecState      = 0xA4
	idDiscardPadding  = 0x75A2
	idSlices          = 0x8E
	idReferenceFrame  = 0xC8
	trackTypeVideo    = 1
	trackTypeAudio    = 2
	compressionZlib   = 0
	compressionHeader = 3
)

// level is a master element that the demuxer walks into.
type level uint8

const (
	levelTop level = iota
	levelSegment
	levelCluster
	levelBlockGroup
)

// known reports whether RFC 9559 defines element id as a child at this level.
// An element elsewhere than its place counts as unknown.
func (l level) known(id uint32) bool {
	switch id {
	case idVoid, idCRC32:
		return true
	}
	switch l {
	case levelTop:
		return startsDocument(id)
	case levelSegment:
		return segmentChild(id)
	case levelCluster:
		return clusterChild(id)
	default:
		return groupChild(id)
	}
}

func startsDocument(id uint32) bool { return id == idEBML || id == idSegment }

func segmentChild(id uint32) bool {
	switch id {
	case idSeekHead, idInfo, idTracks, idCluster, idCues, idAttachments, idChapters, idTags:
		return true
	}
	return false
}

func clusterChild(id uint32) bool {
	switch id {
	case idTimestamp, idSilentTracks, idPosition, idPrevSize, idSimpleBlock, idBlockGroup, idEncryptedBlock:
		return true
	}
	return false
}

func groupChild(id uint32) bool {
	switch id {
	case idBlock, idBlockVirtual, idBlockAdditions, idBlockDuration, idReferencePrio, idReferenceBlock,
		idReferenceVirt, idCodecState, idDiscardPadding, idSlices, idReferenceFrame:
		return true
	}
	return false
}
