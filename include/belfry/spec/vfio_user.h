/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio-user on the wire: the messages that no system header has. Protocol
 * major 0, and the iommufd extension (commands 19 to 26). What the messages
 * share with the kernel's VFIO (region and irq info, irq set, their flags) is
 * in linux/vfio.h. Integers are the host's. No logic.
 */
#ifndef BELFRY_SPEC_VFIO_USER_H
#define BELFRY_SPEC_VFIO_USER_H

#include <stdint.h>
#include <linux/vfio.h>

#define VU_MAJOR 0
#define VU_MINOR 2 /* the newest that we speak */

/* Defaults of VERSION's capabilities. */
#define VU_DEFAULT_MSG_FDS 1
#define VU_DEFAULT_DATA_XFER (1u << 20)
#define VU_DEFAULT_DMA_MAPS 65535
#define VU_DEFAULT_PGSIZES 4096

enum vu_command {
	VU_VERSION = 1,
	VU_DMA_MAP = 2,
	VU_DMA_UNMAP = 3,
	VU_DEVICE_GET_INFO = 4,
	VU_DEVICE_GET_REGION_INFO = 5,
	VU_DEVICE_GET_REGION_IO_FDS = 6,
	VU_DEVICE_GET_IRQ_INFO = 7,
	VU_DEVICE_SET_IRQS = 8,
	VU_REGION_READ = 9,
	VU_REGION_WRITE = 10,
	VU_DMA_READ = 11,  /* server to client */
	VU_DMA_WRITE = 12, /* server to client */
	VU_DEVICE_RESET = 13,
	VU_DIRTY_PAGES = 14, /* retired */
	VU_REGION_WRITE_MULTI = 15,
	VU_DEVICE_FEATURE = 16,
	VU_MIG_DATA_READ = 17,
	VU_MIG_DATA_WRITE = 18,
	VU_IOMMUFD_ALLOC_IOAS = 19,
	VU_IOMMUFD_DESTROY_IOAS = 20,
	VU_IOMMUFD_IOAS_MAP = 21,
	VU_IOMMUFD_IOAS_UNMAP = 22,
	VU_IOMMUFD_IOAS_COPY = 23,
	VU_IOMMUFD_BIND = 24,
	VU_IOMMUFD_ATTACH_PT = 25,
	VU_IOMMUFD_DETACH_PT = 26,
};

#define VU_F_TYPE_MASK 0xfu
#define VU_F_COMMAND 0x0u
#define VU_F_REPLY 0x1u
#define VU_F_NO_REPLY 0x10u
#define VU_F_ERROR 0x20u

struct vu_hdr {
	uint16_t msg_id;
	uint16_t command;
	uint32_t msg_size; /* this header included */
	uint32_t flags;
	uint32_t error_no; /* positive, of replies with VU_F_ERROR */
} __attribute__((packed));

struct vu_version {
	uint16_t major;
	uint16_t minor;
	/* JSON and its NUL follow, or nothing */
} __attribute__((packed));

#define VU_DMA_MAP_READ 0x1u
#define VU_DMA_MAP_WRITE 0x2u
#define VU_DMA_MAP_MMAP 0x4u
#define VU_DMA_MAP_FILE_IO 0x8u

struct vu_dma_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;
	uint64_t address;
	uint64_t size;
} __attribute__((packed));

#define VU_DMA_UNMAP_DIRTY_BITMAP 0x1u
#define VU_DMA_UNMAP_ALL 0x2u

struct vu_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t address;
	uint64_t size;
} __attribute__((packed));

struct vu_device_info {
	uint32_t argsz;
	uint32_t flags; /* VFIO_DEVICE_FLAGS_* */
	uint32_t num_regions;
	uint32_t num_irqs;
} __attribute__((packed));

/* struct vfio_region_info with its one capability, as we send it. */
struct vu_region_info {
	struct vfio_region_info info;
	struct vfio_info_cap_header cap;
	uint32_t nr_areas;
	uint32_t reserved;
	struct vfio_region_sparse_mmap_area area;
} __attribute__((packed));

struct vu_region_io_fds {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
} __attribute__((packed));

struct vu_region_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	/* data follows */
} __attribute__((packed));

struct vu_multi_entry {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	uint8_t data[8];
} __attribute__((packed));

struct vu_device_feature {
	uint32_t argsz;
	uint32_t flags;
} __attribute__((packed));

/* The iommufd extension. Its order of the two bits is not DMA_MAP's. */
#define VU_IOAS_WRITEABLE 0x1u
#define VU_IOAS_READABLE 0x2u
#define VU_IOAS_UNMAP_ALL 0x1u
#define VU_PT_PASID 0x1u

struct vu_ioas_id { /* ALLOC_IOAS and DESTROY_IOAS */
	uint32_t argsz;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
} __attribute__((packed));

struct vu_ioas_map {
	uint32_t argsz;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;
	uint64_t offset;
} __attribute__((packed));

struct vu_ioas_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
	uint64_t iova;
	uint64_t length;
} __attribute__((packed));

struct vu_ioas_copy {
	uint32_t argsz;
	uint32_t flags;
	uint32_t src_ioas_id;
	uint32_t dst_ioas_id;
	uint64_t src_iova;
	uint64_t dst_iova;
	uint64_t length;
} __attribute__((packed));

struct vu_bind {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd; /* -1: the device is the socket's */
	uint32_t devid;
} __attribute__((packed));

struct vu_attach {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id;
	uint32_t pasid;
} __attribute__((packed));

struct vu_detach {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pasid;
	uint32_t reserved;
} __attribute__((packed));

_Static_assert(sizeof(struct vu_hdr) == 16, "header");
_Static_assert(sizeof(struct vu_version) == 4, "VERSION");
_Static_assert(sizeof(struct vu_dma_map) == 32, "DMA_MAP");
_Static_assert(sizeof(struct vu_dma_unmap) == 24, "DMA_UNMAP");
_Static_assert(sizeof(struct vu_device_info) == 16, "DEVICE_GET_INFO");
_Static_assert(sizeof(struct vfio_region_info) == 32, "GET_REGION_INFO");
_Static_assert(sizeof(struct vu_region_info) == 64, "with the sparse area");
_Static_assert(sizeof(struct vu_region_io_fds) == 16, "GET_REGION_IO_FDS");
_Static_assert(sizeof(struct vfio_irq_info) == 16, "GET_IRQ_INFO");
_Static_assert(sizeof(struct vfio_irq_set) == 20, "SET_IRQS");
_Static_assert(sizeof(struct vu_region_access) == 16, "REGION_READ, _WRITE");
_Static_assert(sizeof(struct vu_multi_entry) == 24, "REGION_WRITE_MULTI");
_Static_assert(sizeof(struct vu_device_feature) == 8, "DEVICE_FEATURE");
_Static_assert(sizeof(struct vu_ioas_id) == 16, "ALLOC_, DESTROY_IOAS");
_Static_assert(sizeof(struct vu_ioas_map) == 48, "IOAS_MAP");
_Static_assert(sizeof(struct vu_ioas_unmap) == 32, "IOAS_UNMAP");
_Static_assert(sizeof(struct vu_ioas_copy) == 40, "IOAS_COPY");
_Static_assert(sizeof(struct vu_bind) == 16, "BIND");
_Static_assert(sizeof(struct vu_attach) == 16, "ATTACH_PT");
_Static_assert(sizeof(struct vu_detach) == 16, "DETACH_PT");

#endif
