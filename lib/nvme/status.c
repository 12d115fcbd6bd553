/* SPDX-License-Identifier: BSD-3-Clause */
/* An errno of a block device as the status of the command (NVMe 2.0 §3.3.3.2.1). */
#include <errno.h>

#include "internal.h"

nvme_status_t
nvme_status_of(int err, uint8_t bdev_op)
{
	bool writes = bdev_op != BDEV_READ;

	switch (err < 0 ? -err : err) {
	case 0:
		return NVME_OK;
	case EFAULT:
		return NVME_SC_DATA_XFER_ERROR;
	case ENOSPC:
	case EDQUOT:
		return NVME_DNR(NVME_SC_CAP_EXCEEDED);
	case EROFS:
	case EPERM:
	case EACCES:
		return NVME_DNR(NVME_SC_NS_WRITE_PROTECTED);
	case ENODEV:
	case ENXIO:
		return NVME_DNR(NVME_SC_INVALID_NS);
	case EIO:
	case EBADMSG:
	case ENODATA:
	case EREMOTEIO:
		if (bdev_op == BDEV_FLUSH)
			return NVME_SC_INTERNAL;
		return NVME_MEDIA_SC(writes ? NVME_SC_WRITE_FAULT
					    : NVME_SC_READ_ERROR);
	case ERANGE: /* the device shrank, NS_RESIZE is on its way */
		return NVME_DNR(NVME_SC_LBA_RANGE);
	case ECANCELED:
		return NVME_SC_ABORT_REQ;
	case EINVAL:
	case EOPNOTSUPP:
		return NVME_DNR(NVME_SC_INTERNAL);
	default:
		return NVME_SC_INTERNAL;
	}
}
