/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of lib/nvme share. Read poll.c first; it is the data path on one page.
 *
 * Objects: core (one per reactor) > group (the part of a controller that lives on one reactor) > SQ, CQ > req.
 * The group on the controller's home reactor (ctrl->group) has the admin queue and is always there; those on other
 * reactors are made when a queue is first placed there, and told what to do by messages (group.c, far.c). Whatever
 * touches a queue goes through queue->group; of the controller a group away from home reads only what never changes.
 */
#ifndef BELFRY_NVME_INTERNAL_H
#define BELFRY_NVME_INTERNAL_H

#include <assert.h>

#include "belfry/guest.h"
#include "belfry/log.h"
#include "belfry/nvme.h"
#include "belfry/spec/nvme.h"

/* Status field without phase: SC 7:0, SCT 10:8, MORE 13 (req_complete), DNR 14 (NVME_SC_DNR). 0 is success. */
typedef uint16_t nvme_status_t;
#define NVME_OK ((nvme_status_t)0)
/* Not a status: req_complete() comes later, or the request is run again from its start (req_map, req_to_host). */
#define NVME_PENDING ((nvme_status_t)0xffff)
#define NVME_DNR(sc) ((nvme_status_t)((sc) | NVME_SC_DNR))
/* Status code types 1 and 2: libnvme's NVME_SC_* of those come without their type. */
#define NVME_CMD_SC(sc) ((nvme_status_t)(NVME_SCT_CMD_SPECIFIC << 8 | (sc)))
#define NVME_MEDIA_SC(sc) ((nvme_status_t)(NVME_SCT_MEDIA << 8 | (sc)))

#include "req.h"
#include "pace.h"
#include "queue.h"
#include "group.h"
#include "ns.h"
#include "core.h"
#include "ctrl.h"
#include "cmd.h"
#include "inline.h"

#endif
