/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Status codes in words (NVMe 2.0 §3.3.3.2.1, NVM Command Set 1.0 §3.1.2). Not
 * for deciding what to do about them.
 */
#include "internal.h"

#define SC(type, code) ((type) << 8 | (code))

static const struct {
	uint16_t status;
	const char *text;
} texts[] = {
	{ SC(0, 0x00), "Successful Completion" },
	{ SC(0, 0x01), "Invalid Command Opcode" },
	{ SC(0, 0x02), "Invalid Field in Command" },
	{ SC(0, 0x03), "Command ID Conflict" },
	{ SC(0, 0x04), "Data Transfer Error" },
	{ SC(0, 0x05), "Commands Aborted due to Power Loss Notification" },
	{ SC(0, 0x06), "Internal Error" },
	{ SC(0, 0x07), "Command Abort Requested" },
	{ SC(0, 0x08), "Command Aborted due to SQ Deletion" },
	{ SC(0, 0x09), "Command Aborted due to Failed Fused Command" },
	{ SC(0, 0x0a), "Command Aborted due to Missing Fused Command" },
	{ SC(0, 0x0b), "Invalid Namespace or Format" },
	{ SC(0, 0x0c), "Command Sequence Error" },
	{ SC(0, 0x0d), "Invalid SGL Segment Descriptor" },
	{ SC(0, 0x0e), "Invalid Number of SGL Descriptors" },
	{ SC(0, 0x0f), "Data SGL Length Invalid" },
	{ SC(0, 0x10), "Metadata SGL Length Invalid" },
	{ SC(0, 0x11), "SGL Descriptor Type Invalid" },
	{ SC(0, 0x12), "Invalid Use of Controller Memory Buffer" },
	{ SC(0, 0x13), "PRP Offset Invalid" },
	{ SC(0, 0x14), "Atomic Write Unit Exceeded" },
	{ SC(0, 0x15), "Operation Denied" },
	{ SC(0, 0x16), "SGL Offset Invalid" },
	{ SC(0, 0x18), "Host Identifier Inconsistent Format" },
	{ SC(0, 0x1c), "Sanitize Failed" },
	{ SC(0, 0x1d), "Sanitize In Progress" },
	{ SC(0, 0x20), "Namespace is Write Protected" },
	{ SC(0, 0x21), "Command Interrupted" },
	{ SC(0, 0x22), "Transient Transport Error" },
	{ SC(0, 0x80), "LBA Out of Range" },
	{ SC(0, 0x81), "Capacity Exceeded" },
	{ SC(0, 0x82), "Namespace Not Ready" },
	{ SC(0, 0x83), "Reservation Conflict" },
	{ SC(0, 0x84), "Format In Progress" },
	{ SC(1, 0x00), "Completion Queue Invalid" },
	{ SC(1, 0x01), "Invalid Queue Identifier" },
	{ SC(1, 0x02), "Invalid Queue Size" },
	{ SC(1, 0x03), "Abort Command Limit Exceeded" },
	{ SC(1, 0x05), "Asynchronous Event Request Limit Exceeded" },
	{ SC(1, 0x06), "Invalid Firmware Slot" },
	{ SC(1, 0x07), "Invalid Firmware Image" },
	{ SC(1, 0x08), "Invalid Interrupt Vector" },
	{ SC(1, 0x09), "Invalid Log Page" },
	{ SC(1, 0x0a), "Invalid Format" },
	{ SC(1, 0x0c), "Invalid Queue Deletion" },
	{ SC(1, 0x0d), "Feature Identifier Not Saveable" },
	{ SC(1, 0x0e), "Feature Not Changeable" },
	{ SC(1, 0x0f), "Feature Not Namespace Specific" },
	{ SC(1, 0x80), "Conflicting Attributes" },
	{ SC(1, 0x81), "Invalid Protection Information" },
	{ SC(1, 0x82), "Attempted Write to Read Only Range" },
	{ SC(1, 0x83), "Command Size Limit Exceeded" },
	{ SC(2, 0x80), "Write Fault" },
	{ SC(2, 0x81), "Unrecovered Read Error" },
	{ SC(2, 0x82), "End-to-end Guard Check Error" },
	{ SC(2, 0x83), "End-to-end Application Tag Check Error" },
	{ SC(2, 0x84), "End-to-end Reference Tag Check Error" },
	{ SC(2, 0x85), "Compare Failure" },
	{ SC(2, 0x86), "Access Denied" },
	{ SC(2, 0x87), "Deallocated or Unwritten Logical Block" },
	{ SC(3, 0x00), "Internal Path Error" },
	{ SC(3, 0x60), "Controller Pathing Error" },
	{ SC(3, 0x70), "Host Pathing Error" },
	{ SC(3, 0x71), "Command Aborted By Host" },
};

const char *
belfry_status_str(int status)
{
	static const char *const types[] = {
		"unknown generic status", "unknown command specific status",
		"unknown media error",	  "unknown path error",
		"reserved status type",	  "reserved status type",
		"reserved status type",	  "vendor specific status",
	};

	if (status < 0)
		return "no status";
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].status == (status & 0x7ff))
			return texts[i].text;
	return types[status >> 8 & 7];
}
